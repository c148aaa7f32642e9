"""The reports that `immr.registry.reports` has published: one HTML file each, with a JSON description beside it."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from immr.registry.reports import described

log = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\.html")


@dataclass(frozen=True, slots=True)
class ListedReport:
    """One report: its title, its recipe, and its summary in a sentence."""

    title: str
    file: str
    recipe: str
    sentence: str
    there: bool


def listed(folder: Path) -> Sequence[ListedReport]:
    """The published reports, newest first; unreadable descriptions are logged and skipped."""
    found = []
    for path in described(folder):
        try:
            entry = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            log.warning("%s cannot be read: %s", path, error)
            continue
        if isinstance(entry, dict):
            found.append(_report(folder, entry))
    return found


def file_of(folder: Path, name: str) -> Path | None:
    """The report of that file name, if it is a plain name and the file is there."""
    path = folder / name
    return path if _NAME.fullmatch(name) and path.is_file() else None


def _report(folder: Path, entry: dict[str, Any]) -> ListedReport:
    file = str(entry.get("file", ""))
    return ListedReport(
        title=str(entry.get("title", file)),
        file=file,
        recipe=str(entry.get("recipe") or entry.get("version") or ""),
        sentence=str(entry.get("sentence", "")),
        there=file_of(folder, file) is not None,
    )
