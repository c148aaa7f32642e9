"""What accounts did, by an API server's audit log, beside what their Roles allow."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

Permission = tuple[str, str, str, str]
"""Group, resource ("pods/log" for a subresource), verb, and the object's name, which is empty if any is allowed."""


def used(lines: Iterable[str], namespace: str, account: str) -> set[Permission]:
    """The calls of an account in its namespace.

    Args:
        lines: `audit.k8s.io/v1` events as JSON lines, as `--audit-log-path` writes them with level Metadata.
        namespace: The account's namespace.
        account: Its name.
    """
    user = f"system:serviceaccount:{namespace}:{account}"
    calls = set()
    for line in filter(str.strip, lines):
        event = json.loads(line)
        target = event.get("objectRef")
        if event["user"]["username"] != user or event["stage"] != "ResponseComplete" or target is None:
            continue
        if target.get("namespace") != namespace:  # a review of its own permissions, or discovery
            continue
        resource = "/".join(filter(None, [target["resource"], target.get("subresource")]))
        calls.add((target.get("apiGroup", ""), resource, event["verb"], target.get("name", "")))
    return calls


@dataclass(frozen=True)
class Comparison:
    """Where Roles and calls differ."""

    forbidden: set[Permission]  # done, but allowed by no Role (another binding allows it, or it was refused)
    unused: set[Permission]  # allowed, but never done

    @classmethod
    def of(cls, calls: set[Permission], permissions: set[Permission]) -> Comparison:
        """Compare calls with permissions; a permission without a name covers every object."""
        by_permission = {call: _covering(call, permissions) for call in calls}
        needed = {permission for permission in by_permission.values() if permission is not None}
        forbidden = {call for call, permission in by_permission.items() if permission is None}
        return cls(forbidden, permissions - needed)


def _covering(call: Permission, permissions: set[Permission]) -> Permission | None:
    group, resource, verb, name = call
    for wanted in ((group, resource, verb, name), (group, resource, verb, "")):
        if wanted in permissions:
            return wanted
    return None
