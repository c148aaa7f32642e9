from pathlib import Path

from immr.loop.reports import Report, publish, published


def test_the_newest_report_of_a_kind_and_recipe_stands_first_and_alone(tmp_path: Path) -> None:
    html = tmp_path / "gallery.html"
    for number in (1, 2):
        html.write_text(f"run {number}")
        publish(
            tmp_path, html, Report("evaluation", "Evaluation", "concept", f"run {number}", f"immr-{number}")
        )
    publish(tmp_path, html, Report("governance", "Data", "concept", "clean"))

    first, second = published(tmp_path)
    assert (first["kind"], second["sentence"]) == ("governance", "run 2")
    assert (tmp_path / "reports" / second["file"]).read_text() == "run 2"


def test_no_reports_yet_is_no_error(tmp_path: Path) -> None:
    assert published(tmp_path) == []
