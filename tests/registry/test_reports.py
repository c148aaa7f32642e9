import os
import threading
from pathlib import Path

from immr.registry.reports import Report, ab_test_link, pipeline_run_link, publish, published, version_facts
from immr.settings import Settings
from tests.support import tiny_version


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


def test_links_lead_to_the_pages_of_other_services(tmp_path: Path) -> None:
    links = {"pipelines_link": "http://kfp/", "page_link": "http://page", "tracking_link": "http://mlflow/"}
    settings = Settings(home=tmp_path, **links)
    assert pipeline_run_link(settings, "run-7") == "http://kfp/#/runs/details/run-7"
    assert ab_test_link(settings, "spring sale") == "http://page/tests/spring%20sale"
    facts = version_facts(settings, tiny_version.version(3))
    assert facts["version"] == "immr-3" and facts["mlflow"] == "http://mlflow/#/models/immr/versions/3"


def test_without_an_address_there_is_no_link(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    assert pipeline_run_link(settings, "run-7") == ab_test_link(settings, "spring") == ""
    assert version_facts(settings, tiny_version.version(3))["mlflow"] == ""
