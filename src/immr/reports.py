"""Copies of the latest reports, for the page: one HTML file a report and `summary.json` beside them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from immr.files import write_whole


@dataclass(frozen=True)
class Report:
    """What a report is about; a newer one of the same kind and recipe takes its place."""

    kind: str  # "governance" or "evaluation"
    title: str
    recipe: str
    sentence: str
    version: str | None = None


def publish(home: Path, html: Path, report: Report) -> Path:
    """Copy a report to where the page looks for it, and list it."""
    folder = home / "reports"
    copy = folder / f"{report.kind}-{report.recipe}.html"
    write_whole(copy, html.read_bytes())
    others = [entry for entry in published(home) if entry["file"] != copy.name]
    write_whole(
        folder / "summary.json", json.dumps([{"file": copy.name, **asdict(report)}, *others], indent=1)
    )
    return copy


def published(home: Path) -> list[dict[str, Any]]:
    """The reports there are, newest first."""
    summary = home / "reports" / "summary.json"
    entries: list[dict[str, Any]] = json.loads(summary.read_text()) if summary.is_file() else []
    return entries
