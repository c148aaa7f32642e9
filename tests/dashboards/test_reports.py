from __future__ import annotations

from pathlib import Path

import pytest

from dashboards import reports
from tests.support.page_home import add_reports


def test_reports_are_listed_with_those_that_are_missing(tmp_path: Path) -> None:
    add_reports(tmp_path)
    missing, kept = reports.listed(tmp_path / "reports")
    assert (missing.title, missing.there) == ("Evaluation of immr-2", False)
    assert (kept.file, kept.recipe, kept.there) == ("governance-concept.html", "concept", True)


@pytest.mark.parametrize("content", ["", "{", "[1, null]", "[]"])
def test_an_unreadable_description_is_skipped(tmp_path: Path, content: str) -> None:
    (tmp_path / "evaluation-concept.json").write_text(content)
    assert not reports.listed(tmp_path)
    assert not reports.listed(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "name", ["../secret.html", "/etc/passwd", "summary.json", ".hidden.html", "a/b.html", ""]
)
def test_only_plain_names_are_served(tmp_path: Path, name: str) -> None:
    add_reports(tmp_path)
    (tmp_path / "secret.html").write_text("secret")
    assert reports.file_of(tmp_path / "reports", name) is None
