"""What IMMR's objects on a cluster have in common: labels, security context, conditions, sizes from a URL."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from immr.errors import SettingsError

Shape = TypeVar("Shape")

MANAGED_BY = ("app.kubernetes.io/managed-by", "immr")
"""Label of the objects that IMMR creates; others are never changed or deleted."""
CONTENT = "immr.dev/content"
"""Annotation: a hash of what an object that IMMR created asks for."""
OUTSIDE_MESH = {"sidecar.istio.io/inject": "false", "istio.io/dataplane-mode": "none"}
"""Labels of pods outside a service mesh, whose policy would refuse callers without a sidecar, such as steps."""
_USER = 10001  # the user of IMMR's images


def is_ours(body: Mapping[str, Any]) -> bool:
    """Whether IMMR created this object."""
    return bool(body["metadata"].get("labels", {}).get(MANAGED_BY[0]) == MANAGED_BY[1])


def condition(body: Mapping[str, Any], kind: str) -> Mapping[str, Any] | None:
    """The object's condition of this kind, or None if it is not true."""
    conditions: list[Mapping[str, Any]] = body.get("status", {}).get("conditions", [])
    return next((entry for entry in conditions if entry["type"] == kind and entry["status"] == "True"), None)


def is_live(pod: Mapping[str, Any]) -> bool:
    """Whether a pod runs or is about to: it is not being deleted and has not ended."""
    ended = pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
    return not ended and "deletionTimestamp" not in pod["metadata"]


def restricted_pod() -> Any:
    """The security context of a pod: the user of IMMR's images, and their group on volumes."""
    from kubernetes import client

    return client.V1PodSecurityContext(
        run_as_non_root=True,
        run_as_user=_USER,
        run_as_group=_USER,
        fs_group=_USER,
        fs_group_change_policy="OnRootMismatch",
        seccomp_profile=client.V1SeccompProfile(type="RuntimeDefault"),
    )


def shape_from_query(shape: Callable[..., Shape], variable: str, query: Mapping[str, str]) -> Shape:
    """A dataclass of integers and strings whose defaults are overridden by a URL's query.

    Raises:
        SettingsError: A name is unknown, or a value is not a whole number where one is expected.
    """
    kinds = {name: type(value) for name, value in dataclasses.asdict(shape()).items()}  # type: ignore[call-overload]
    changes: dict[str, Any] = {}
    for name, value in query.items():
        if name not in kinds:
            raise SettingsError(
                f"{variable} has the unknown name {name!r}: use one of {', '.join(sorted(kinds))}"
            )
        try:
            changes[name] = kinds[name](value)
        except ValueError as error:
            raise SettingsError(f"{variable} has {name}={value!r}: give a whole number") from error
    return shape(**changes)
