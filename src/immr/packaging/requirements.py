"""Installed requirements: the versions of packages and of their dependencies, direct and indirect."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Iterator

from immr import __version__
from immr.errors import PackagingError
from immr.packaging.application import is_checkout


def install_command(extra: str) -> str:
    """What installs the libraries of an extra: from the repository, or from the wheel, with the pins beside it."""
    what = f"--editable '.[{extra}]'" if is_checkout() else f"'immr-{__version__}-py3-none-any.whl[{extra}]'"
    return f"pip install --constraint constraints.txt {what}"


def pinned_requirements(extra: str) -> list[str]:
    """`name==version` of everything that `immr[extra]` needs, as installed here, sorted.

    Raises:
        PackagingError: A package is not installed here.
    """
    versions = installed_closure([f"immr[{extra}]"])
    if missing := sorted(name for name, version in versions.items() if not version):
        raise PackagingError(f"a Bento needs {', '.join(missing)}: {install_command(extra)}")
    return [f"{name}=={version}" for name, version in sorted(versions.items()) if name != "immr"]


def installed_closure(requirements: Iterable[str]) -> dict[str, str]:
    """Versions of these requirements and their dependencies, by canonical name; "" if not installed."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    versions: dict[str, str] = {}
    visited: set[tuple[str, frozenset[str]]] = set()
    waiting = [
        (requirement.name, frozenset(requirement.extras)) for requirement in map(Requirement, requirements)
    ]
    while waiting:
        name, extras = waiting.pop()
        name = canonicalize_name(name)
        if (name, extras) in visited:
            continue
        visited.add((name, extras))
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = ""
            continue
        versions[name] = distribution.version.split("+")[0]  # package indexes do not carry local versions
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
