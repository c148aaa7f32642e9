"""Installed requirements: the versions of a set of packages and of everything they need."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Iterator

from immr.errors import PackagingError


def pinned_requirements(extra: str) -> list[str]:
    """`name==version`, as installed here, of everything that `immr[extra]` needs; sorted.

    Raises:
        PackagingError: a package is not installed here.
    """
    versions = installed_closure([f"immr[{extra}]"])
    if missing := sorted(name for name, version in versions.items() if not version):
        raise PackagingError(
            f"a Bento needs {', '.join(missing)}: pip install -c constraints.txt 'immr[{extra}]'"
        )
    return [f"{name}=={version}" for name, version in sorted(versions.items()) if name != "immr"]


def installed_closure(requirements: Iterable[str]) -> dict[str, str]:
    """Versions by canonical name of these requirements and all that they need; "" if one is not installed."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    versions: dict[str, str] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [(one.name, frozenset(one.extras)) for one in map(Requirement, requirements)]
    while waiting:
        name, extras = waiting.pop()
        name = canonicalize_name(name)
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = ""
            continue
        versions[name] = distribution.version.split("+")[0]  # indexes do not have local versions
        waiting += _needs(distribution, extras)
    return versions


def _needs(
    distribution: importlib.metadata.Distribution, extras: frozenset[str]
) -> Iterator[tuple[str, frozenset[str]]]:
    from packaging.requirements import Requirement

    for line in distribution.requires or []:
        need = Requirement(line)
        if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in extras | {""}):
            yield need.name, frozenset(need.extras)
