"""Commands that print a table write it as CSV and Parquet, too."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
from click.testing import Result
from typer.testing import CliRunner

from immr.cli import app, events, index, items, loop
from immr.cli.experiment import readout
from immr.doctor import local
from immr.doctor.finding import Finding
from immr.drift.findings import DriftFinding, DriftReport
from immr.evaluation.bootstrap import Estimate
from immr.evaluation.queries.kinds import KindResult
from immr.loop.items.request import ItemsProgress, ItemsResult
from tests.cli.test_commands import ALL

TABLES = (
    "data check",
    "doctor",
    "drift",
    "evaluate",
    "experiment decide",
    "experiment history",
    "experiment holdout",
    "experiment plan",
    "experiment queue",
    "experiment readout",
    "index gc",
    "items delete",
    "items deliver",
    "items status",
    "items upsert",
    "models",
    "recipe list",
    "watch",
)
"""All that call `Table` or `print_table`; the others print sentences."""


def rows_of(home: Path, *words: str, exit_code: int = 0) -> list[dict[str, str]]:
    """The rows of `--csv`, if `--parquet` writes the same ones."""

    def immr(*options: str) -> Result:
        done = CliRunner(env={"IMMR_HOME": str(home)}).invoke(app, [*words, *options])
        assert done.exit_code == exit_code, done.output
        return done

    printed = list(csv.DictReader(io.StringIO(immr("--csv").stdout)))
    file = home / "table.parquet"
    assert immr("--parquet", str(file)).stdout == ""
    stored = [
        {name: "" if value is None else str(value) for name, value in row.items()}
        for row in pq.read_table(file).to_pylist()
    ]
    assert printed == stored
    return printed


def test_these_commands_take_both_options() -> None:
    options = {
        name.removeprefix("immr "): {option for parameter in command.params for option in parameter.opts}
        for name, command in ALL.items()
    }
    both = sorted(name for name, taken in options.items() if {"--csv", "--parquet"} <= taken)
    either = sorted(name for name, taken in options.items() if {"--csv", "--parquet"} & taken)
    assert both == either == list(TABLES)


@pytest.mark.parametrize("name", TABLES)
def test_stdout_takes_one_format(name: str, tmp_path: Path) -> None:
    """It is refused before the command does anything."""
    for formats in (["--csv", "--json"], ["--json", "--csv"]):
        done = CliRunner(env={"IMMR_HOME": str(tmp_path / "home")}).invoke(app, [*name.split(), *formats])
        assert done.exit_code == 2
        assert "choose --csv or --json" in done.stderr
    assert not (tmp_path / "home").exists()


def test_an_empty_queue_has_a_header(tmp_path: Path) -> None:
    done = CliRunner(env={"IMMR_HOME": str(tmp_path)}).invoke(app, ["experiment", "queue", "--csv"])
    assert done.stdout == "model_version,bento,share,since,force,problem,reason\n"


def test_each_problem_of_a_shops_tables_is_a_row(tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    shop.mkdir()
    columns = "item_id,title,description,category,image,price,updated_at"
    (shop / "items.csv").write_text(f"{columns}\na,Tea,,Drinks,a.jpg,free,2025-01-01\n")
    catalogue, *others = rows_of(tmp_path, "data", "check", str(shop), exit_code=3)
    assert (catalogue["table"], catalogue["sampled"], catalogue["rows"]) == ("items", "1", "1")
    assert catalogue["problem"].startswith("price") and catalogue["example"] == "'free'"
    assert all(row["error"] and not row["problem"] for row in others)


def test_findings_of_the_doctor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    findings = [Finding("disk", True, "9 GB free", ""), Finding("torch", False, "missing", "install it")]
    monkeypatch.setattr(local, "examine", lambda parts: findings)
    assert [row["ok"] for row in rows_of(tmp_path, "doctor", exit_code=3)] == ["True", "False"]


def test_progress_of_catalogue_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    progress = (
        ItemsProgress("immr-1", True, 5, 5, None),
        ItemsProgress("immr-2", True, 2, 5, 2, "no answer"),
    )
    monkeypatch.setattr(items, "ask", lambda *_: ItemsResult(progress))
    assert [row["waiting"] for row in rows_of(tmp_path, "items", "status", exit_code=3)] == ["0", "3"]


def test_recipes_and_collections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"recipe": "concept"}.items() <= rows_of(tmp_path, "recipe", "list")[0].items()
    monkeypatch.setattr(index, "collect_garbage", lambda *_: {"immr-1": "deleted"})
    assert rows_of(tmp_path, "index", "gc", "--keep", "1") == [{"version": "immr-1", "collection": "deleted"}]


def test_findings_of_drift(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime(2026, 5, 1, tzinfo=UTC)
    findings = DriftFinding("scores", None, "Too few data."), DriftFinding("photos", True, "They differ.")
    found = DriftReport("immr-1", now, now, findings)
    monkeypatch.setattr(events, "parts_of", lambda ctx: SimpleNamespace(registry=SimpleNamespace(get=str)))
    monkeypatch.setattr(events, "TrainingSet", Path)
    monkeypatch.setattr(events.drift_verb, "drift", lambda *_: found)
    assert [row["found"] for row in rows_of(tmp_path, "drift", str(tmp_path), exit_code=3)] == ["", "True"]


def test_metrics_of_every_kind_of_query(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of_photos, of_words = ({"recall@1": Estimate(mean, 0.1, 0.9)} for mean in (0.5, 1 / 3))
    evaluated = SimpleNamespace(intervals=of_photos), {"text": KindResult(9, "3 classes", of_words)}
    version = SimpleNamespace(id="immr-1")
    parts = SimpleNamespace(registry=SimpleNamespace(get=lambda name: version))
    monkeypatch.setattr(loop, "parts_of", lambda ctx: parts)
    monkeypatch.setattr(loop.evaluate_verb, "evaluate_dataset", lambda *_: evaluated)
    command = ("evaluate", "--dataset", "grocery", "--recipe", "concept", "--queries", "text")
    rows = rows_of(tmp_path, *command)
    assert [(row["queries"], row["mean"]) for row in rows] == [("", "0.5"), ("text", str(1 / 3))]


def test_a_title_longer_than_its_table_is_not_cut(capsys: pytest.CaptureFixture[str]) -> None:
    title = "immr-2 on /srv/immr/work/training-sets/c6035bde13e658cd-with-a-long-name"
    loop._show_metrics(title, {"recall@1": Estimate(0.5, 0.4, 0.6)}, {}, False, None, False)
    assert title in capsys.readouterr().out


def test_a_value_in_brackets_is_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    readout._print_table("by category", [("by", "segment"), ("category", "Tops [/] [sale]")])
    assert "Tops [/] [sale]" in capsys.readouterr().out
