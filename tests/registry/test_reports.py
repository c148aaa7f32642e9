import os
import threading
from pathlib import Path

from immr.registry.reports import Report, publish, published


def test_a_newer_report_replaces_the_one_of_its_kind_and_recipe(tmp_path: Path) -> None:
    html = tmp_path / "report.html"
    for number in (1, 2):
        html.write_text(f"run {number}")
        about = Report("evaluation", "Evaluation", "concept", f"run {number}", f"immr-{number}")
        copy = publish(tmp_path, html, about)
    os.utime(copy.with_suffix(".json"), (1_700_000_000,) * 2)
    publish(tmp_path, html, Report("governance", "Data", "concept", "clean"))

    first, second = published(tmp_path)
    assert (first["kind"], second["sentence"]) == ("governance", "run 2")
    assert (tmp_path / "reports" / second["file"]).read_text() == "run 2"


def test_concurrent_publishers_lose_no_report(tmp_path: Path) -> None:
    """Two writers of one shared list published 40 reports and kept 29."""
    html = tmp_path / "report.html"
    html.write_text("report")

    def publish_twenty(kind: str) -> None:
        for number in range(20):
            publish(tmp_path, html, Report(kind, kind, f"recipe-{number}", "fine"))

    writers = [threading.Thread(target=publish_twenty, args=(kind,)) for kind in ("governance", "evaluation")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(published(tmp_path)) == 40


def test_without_reports_the_list_is_empty(tmp_path: Path) -> None:
    assert published(tmp_path) == []
