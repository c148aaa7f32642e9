"""Reports for people: the latest ones for the page, and links for Kubeflow's UI.

Each report is one HTML file below `<home>/reports/`, with its description in a JSON file beside it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from immr.storage.atomic import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from immr.settings import Settings
    from immr.types import ModelVersion


@dataclass(frozen=True)
class Report:
    """What a report is about. A newer one of the same kind and recipe replaces it."""

    kind: str  # "governance" or "evaluation"
    title: str
    recipe: str
    sentence: str
    version: str | None = None


def publish(home: Path, html: Path, report: Report) -> Path:
    """Copy a report to the folder that the page reads; returns the copy.

    Each report has its own description file, so that concurrent publishers cannot lose each other's entries.
    """
    folder = home / "reports"
    copy = folder / f"{report.kind}-{report.recipe}.html"
    write_atomically(copy, html.read_bytes())
    write_atomically(copy.with_suffix(".json"), json.dumps({"file": copy.name, **asdict(report)}, indent=1))
    return copy


def published(home: Path) -> list[dict[str, Any]]:
    """The descriptions of all published reports, newest first."""
    return [json.loads(path.read_text()) for path in described(home / "reports")]


def described(folder: Path) -> list[Path]:
    """The description files in a folder of reports, newest first."""
    return sorted(folder.glob("[!.]*.json"), key=lambda path: path.stat().st_mtime_ns, reverse=True)


def verdict_page(settings: Settings, version: ModelVersion, sentence: str) -> str:
    """Markdown: the gate's sentence, with links to the version in MLflow and on the page."""
    return "\n".join([f"# {version.id}", "", sentence, "", *links(settings, version)]) + "\n"


def pipeline_run_link(settings: Settings, run: str) -> str:
    """The address of a run in Kubeflow's UI, or an empty string without IMMR_PIPELINES_LINK."""
    if not run or not settings.pipelines_link:
        return ""
    return f"{settings.pipelines_link.rstrip('/')}/#/runs/details/{quote(run)}"


def ab_test_link(settings: Settings, test: str) -> str:
    """The address of a test's report on the page, or an empty string without IMMR_PAGE_LINK."""
    return f"{settings.page_link.rstrip('/')}/tests/{quote(test)}" if settings.page_link else ""


def version_facts(settings: Settings, version: ModelVersion) -> dict[str, str | int]:
    """Metadata of a pipeline's artifact that describes a version."""
    return {
        "version": version.id,
        "recipe": version.recipe,
        "dim": version.dim,
        "training_set": version.manifest_hash,
        "mlflow_run": version.run_id,
        "mlflow": _version_link(settings, version),
    }


def _version_link(settings: Settings, version: ModelVersion) -> str:
    """The address of a version in MLflow, or an empty string for an embedded MLflow."""
    tracking = tracking_link(settings)
    return f"{tracking}/#/models/{version.name}/versions/{version.number}" if tracking else ""


def tracking_link(settings: Settings) -> str:
    """The address of MLflow in a browser, or an empty string for an embedded one."""
    link = (settings.tracking_link or settings.tracking_url).rstrip("/")
    return link if link.startswith("http") else ""


def tracking_home(settings: Settings) -> str:
    """The address of MLflow's experiments, or an empty string; MLflow itself opens with its pages for GenAI."""
    tracking = tracking_link(settings)
    return f"{tracking}/#/experiments?workflowType=machine_learning" if tracking else ""


def links(settings: Settings, version: ModelVersion | None = None) -> list[str]:
    """Markdown list items that link to MLflow and the page; an embedded MLflow has no address."""
    items = []
    if tracking := tracking_link(settings):
        items += [f"- [MLflow]({tracking_home(settings)})"]
        if version:
            items += [
                f"- [MLflow run]({tracking}/#/runs/{version.run_id})",
                f"- [model version]({_version_link(settings, version)})",
            ]
    if settings.page_link:
        items += [f"- [search, test and reports]({settings.page_link})"]
    return items
