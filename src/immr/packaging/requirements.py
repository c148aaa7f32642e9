"""What a Bento's container installs: the tested versions of one extra and of all that it needs, no more."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator

from immr.errors import PackagingError


def pinned_requirements(extra: str) -> list[str]:
    """`name==version` of what `immr[extra]` needs, down to the last, as installed here; sorted.

    Raises:
        PackagingError: something that is needed is not installed here.
    """
    from packaging.utils import canonicalize_name

    pins: dict[str, str] = {}
    waiting = [("immr", frozenset({extra}))]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        distribution = _distribution(name, extra)
        if name != "immr":
            pins[name] = distribution.version.split("+")[0]  # a local build's mark is in no package index
        waiting += [(canonicalize_name(need), wanted) for need, wanted in _needs(distribution, extras)]
    return [f"{name}=={version}" for name, version in sorted(pins.items())]


def _needs(
    distribution: importlib.metadata.Distribution, extras: frozenset[str]
) -> Iterator[tuple[str, frozenset[str]]]:
    from packaging.requirements import Requirement

    for line in distribution.requires or []:
        need = Requirement(line)
        if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in extras | {""}):
            yield need.name, frozenset(need.extras)


def _distribution(name: str, extra: str) -> importlib.metadata.Distribution:
    try:
        return importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError as error:
        raise PackagingError(
            f"{name} is not installed, but a Bento needs it: pip install -c constraints.txt 'immr[{extra}]'"
        ) from error
