"""The last pipeline run's reports: a folder of HTML files and `summary.json`, which lists them in order."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\.html")


@dataclass(frozen=True, slots=True)
class Report:
    """One report: what it is, of which recipe, and what it says in a sentence."""

    title: str
    file: str
    recipe: str
    sentence: str
    there: bool


def listed(folder: Path) -> Sequence[Report]:
    """The reports of `folder/summary.json`; none where it is missing or cannot be read (that is logged)."""
    try:
        entries = json.loads((folder / "summary.json").read_text())
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        log.warning("%s cannot be read: %s", folder / "summary.json", error)
        return []
    return [_report(folder, entry) for entry in entries if isinstance(entry, dict)]


def file_of(folder: Path, name: str) -> Path | None:
    """The report of that file name, if it is a plain name and the file is there."""
    path = folder / name
    return path if _NAME.fullmatch(name) and path.is_file() else None


def _report(folder: Path, entry: dict[str, Any]) -> Report:
    file = str(entry.get("file", ""))
    return Report(
        title=str(entry.get("title", file)),
        file=file,
        recipe=str(entry.get("recipe") or entry.get("version") or ""),
        sentence=str(entry.get("sentence", "")),
        there=file_of(folder, file) is not None,
    )
