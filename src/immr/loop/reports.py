"""Reports for people: copies of the latest for the page, and what a pipeline run shows in Kubeflow's UI.

For the page: one HTML file a report and `summary.json` beside them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from immr.settings import Settings
from immr.storage.atomic import write_atomically
from immr.types import ModelVersion


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
    write_atomically(copy, html.read_bytes())
    others = [entry for entry in published(home) if entry["file"] != copy.name]
    write_atomically(
        folder / "summary.json", json.dumps([{"file": copy.name, **asdict(report)}, *others], indent=1)
    )
    return copy


def published(home: Path) -> list[dict[str, Any]]:
    """The reports there are, newest first."""
    summary = home / "reports" / "summary.json"
    entries: list[dict[str, Any]] = json.loads(summary.read_text()) if summary.is_file() else []
    return entries


def verdict_page(settings: Settings, version: ModelVersion, sentence: str) -> str:
    """Markdown: the gate's sentence, and where more about the version can be seen."""
    return "\n".join([f"# {version.id}", "", sentence, "", *links(settings, version)]) + "\n"


def links(settings: Settings, version: ModelVersion | None = None) -> list[str]:
    """Markdown list items that link to MLflow and the page; an embedded MLflow has no address."""
    links = []
    tracking = settings.tracking_link or settings.tracking_url
    if tracking.startswith("http"):
        tracking = tracking.rstrip("/")
        links += [f"- [MLflow]({tracking})"]
        if version:
            links += [
                f"- [MLflow run]({tracking}/#/runs/{version.run_id})",
                f"- [model version]({tracking}/#/models/{version.name}/versions/{version.number})",
            ]
    if settings.page_link:
        links += [f"- [search, experiment and reports]({settings.page_link})"]
    return links
