"""`immr` as a user runs it, in its own process."""

import importlib
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner

from immr.cli import app, application
from immr.cli.application import COMMANDS
from immr.cli.help import EARLIER_COMMANDS
from immr.settings import Settings
from immr.wiring import connect

HEAVY = {
    "duckdb", "feast", "httpx", "kfp", "mlflow", "numpy", "pandas", "pyarrow", "qdrant_client", "sklearn", "torch"
}  # fmt: skip
STEPS = ("govern", "train", "evaluate", "package", "index", "materialize", "deploy")


def immr(home: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "immr.cli", *arguments],
        env={**os.environ, "IMMR_HOME": str(home), "COLUMNS": "200", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_every_verb_is_a_command(tmp_path: Path) -> None:
    done = immr(tmp_path, "--help")
    assert done.returncode == 0
    assert set(STEPS) <= set(done.stdout.split())


def test_the_help_lists_every_command_of_every_module() -> None:
    """`COMMANDS` is written by hand, so that the help imports no command."""
    listed = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert all(listed[name].name == name for name in COMMANDS)
    for module in {place.partition(":")[0] for place, _ in COMMANDS.values()}:
        commands = getattr(importlib.import_module(f"immr.cli.{module}"), "app", None)
        if commands is not None:
            assert set(typer.main.get_group(commands).commands) <= set(COMMANDS)


@pytest.mark.parametrize("earlier", EARLIER_COMMANDS)
def test_commands_have_their_earlier_names_too(earlier: str) -> None:
    present = EARLIER_COMMANDS[earlier]
    command = [part for part in present if not part.startswith("--")]
    shown, expected = (CliRunner().invoke(app, [*one, "--help"]).stdout for one in ([earlier], command))
    assert shown == expected and f"immr {' '.join(command)}" in shown


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["keys", "--help"], ["items", "upsert", "--help"]]
)
def test_a_command_that_computes_nothing_starts_fast(arguments: list[str]) -> None:
    """Counts the modules that are imported; each of these libraries takes longer than the rest together."""
    program = (
        f"import sys; from immr.cli import app; app({arguments}, standalone_mode=False); "
        f"print(sorted({HEAVY} & {{name.partition('.')[0] for name in sys.modules}}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("arguments", [["status"], ["models"], ["items", "status"]])
def test_a_command_that_only_reads_loads_no_model(arguments: list[str], tmp_path: Path) -> None:
    program = (
        f"import sys; from immr.cli import app; app({arguments}, standalone_mode=False); "
        "print(sorted({'feast', 'kfp', 'onnxruntime', 'openvino', 'torch'} & set(sys.modules)), file=sys.stderr)"
    )
    connect(Settings(home=tmp_path)).registry.roles()  # makes the database, which takes a new process seconds
    environment = {**os.environ, "IMMR_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.stderr.strip().endswith("[]"), done.stderr


def test_an_error_is_one_sentence_with_a_remedy(tmp_path: Path) -> None:
    done = immr(tmp_path, "train", str(tmp_path / "nothing"))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "run `immr govern` first" in done.stderr


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = immr(tmp_path / "file" / "home", "data", "synthetic", "--out", str(tmp_path / "shop"))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert f"{tmp_path / 'file'}" in done.stderr and "check the path" in done.stderr


@pytest.mark.slow
def test_data_then_govern_gives_a_training_set(tmp_path: Path) -> None:
    done = immr(tmp_path, "data", "synthetic", "--out", str(tmp_path / "shop"))
    assert done.returncode == 0, done.stderr
    for table, rows in (("queries", 200), ("judgements", 40)):  # a smaller log is quicker
        file = tmp_path / "shop" / f"{table}.parquet"
        pq.write_table(pq.read_table(file).slice(0, rows), file)
    shop = str(tmp_path / "shop")
    done = immr(tmp_path, "govern", shop, "--out", str(tmp_path / "set"), "--recipe", "smoke")
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "set" / "manifest.json").read_text())
    assert manifest["hash"][:16] in done.stdout


def test_a_sample_of_bad_tables_is_reported_without_writing(tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    shop.mkdir()
    (shop / "items.csv").write_text("item_id,titel,description\na,Tea,\n")
    (shop / "queries.csv").write_text("query_id,user_id,ts,image\nq,u,yesterday,q.jpg\n")
    before = sorted(shop.iterdir())
    done = immr(tmp_path / "home", "data", "check", str(shop), "--json")
    reports = {report["name"]: report for report in json.loads(done.stdout)}
    assert done.returncode == 3
    assert reports["items"]["proposal"]["rules"]["title"]["column"] == "titel"
    assert reports["queries"]["problems"][0]["reason"].startswith("ts is not a valid time")
    assert "impressions" in reports and sorted(shop.iterdir()) == before


def test_a_folder_with_a_catalogue_alone_is_told_how_to_start(tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    shop.mkdir()
    columns = "item_id,title,description,category,image,price,updated_at"
    (shop / "items.csv").write_text(f"{columns}\na,Tea,,Drinks,a.jpg,1.5,2025-01-01\n")
    done = immr(tmp_path / "home", "data", "check", str(shop))
    assert done.returncode == 3
    assert "missing pictures: 1 of the first 1" in done.stdout
    assert "relative paths start at the folder" in done.stderr and "immr start" not in done.stderr
    (shop / "a.jpg").touch()
    done = immr(tmp_path / "home", "data", "check", str(shop))
    assert f"`immr start {shop}`" in done.stderr
    named = shop.rename(tmp_path / "my shop") / "items.csv"
    named.write_text(named.read_text().replace("title", "titel"))
    done = immr(
        tmp_path / "home", "data", "check", str(named.parent), "--propose", str(tmp_path / "map.toml")
    )
    assert f"`immr start '{named.parent}' --map {tmp_path}/map.toml`" in done.stderr


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    """The operating system's error often names no file; it once came out as a traceback."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "immr.cli", "recipe", "show", "concept"],
            env={**os.environ, "IMMR_HOME": str(tmp_path)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
        )
    assert done.returncode == 1
    assert "No space left on device: free some space" in done.stderr and "Traceback" not in done.stderr


def test_a_database_on_a_full_disk_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the journal of fetched pictures; it came out as a traceback."""

    def fill() -> None:
        with closing(sqlite3.connect(":memory:")) as database:
            database.execute("PRAGMA max_page_count = 2")
            database.execute("CREATE TABLE urls AS SELECT zeroblob(100000)")

    monkeypatch.setattr(application, "app", fill)
    with pytest.raises(SystemExit) as end:
        application.run()
    assert end.value.code == 1
    assert "database or disk is full: free some space, then run it again" in capsys.readouterr().err
