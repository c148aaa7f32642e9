"""Files and folders by age, while other processes may be deleting them."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def oldest_first(paths: Iterable[Path]) -> list[Path]:
    """The paths that still exist, by the time of their last change."""
    ages: list[tuple[int, Path]] = []
    for path in paths:
        with suppress(FileNotFoundError):
            ages.append((path.stat().st_mtime_ns, path))
    return [path for _, path in sorted(ages)]
