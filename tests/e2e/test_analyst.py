"""An analyst follows the pages about experiments: each command, as it is written, on a home with a running test."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from immr.cli import app
from immr.experiment.file import load
from immr.settings import Settings
from tests.support.two_versions import champion_and_challenger, move, ready, shop

PAGES = [
    Path(__file__).parents[2] / "docs" / f"{name}.md"
    for name in ("experiments", "experiment-kinds", "events")
]


def commands(section: str) -> list[str]:
    """The commands of a section's first block, without comments."""
    pages = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    text = pages.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    block = text.split("```")[1]
    lines = (line.partition("#")[0].strip() for line in block.splitlines())
    return [line for line in lines if line.startswith("immr ")]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """immr-1 and immr-2 are deployed and answer; the analyst works in an empty folder."""
    settings = champion_and_challenger(tmp_path)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with ExitStack() as serving:
        move(settings, {each: serving.enter_context(ready(each)) for each in ("immr-1", "immr-2")})
        yield settings


def run(home: Settings, command: str) -> str:
    """What the command prints; its redirection is followed, as a shell would."""
    words, _, file = command.partition(" > ")
    done = CliRunner(env={"IMMR_HOME": str(home.home)}).invoke(app, shlex.split(words)[1:])
    assert done.exit_code == 0, f"{command}: {done.output} {done.exception!r}"
    if file:
        Path(file.strip()).write_text(done.stdout)
    return done.stdout


def test_the_analyst_gets_the_numbers_out(home: Settings) -> None:
    start, read_holdout = commands("A holdout")
    assert "holdout 5% of all users" in run(home, start)
    running = load(home.experiment_file)
    shop(home, running, {"champion": 5, "challenger": 9}, users=900)

    printed = {command: run(home, command) for command in commands("Try it on the demo")}
    assert "immr-2" in printed["immr status"]
    assert re.search(r"challenger\W+immr-2", printed["immr experiment readout"])
    assert printed["immr experiment readout --by rank --csv"].startswith(
        "experiment,dimension,segment,metric,variant"
    )
    assert running.name in Path("test.html").read_text()

    for command in commands("Segments"):
        run(home, command)
    assert "country,(unknown)" in Path("readout.csv").read_text()
    assert "all others" in run(home, read_holdout)

    run(home, "immr events sink --out events")
    assert pq.read_table("events/searches").num_rows == 900
    there, from_files = (
        json.loads(run(home, f"immr experiment readout {options} --json"))["readout"]["variants"]
        for options in ("", "--from events")
    )
    assert there == from_files

    for command in (
        "experiment plan",
        "experiment readout",
        "experiment holdout",
        "experiment history",
        "models",
    ):
        rows = run(home, f"immr {command} --csv").splitlines()
        assert run(home, f"immr {command} --parquet table.parquet") == ""
        table = pq.read_table("table.parquet")
        assert rows[0] == ",".join(table.column_names) and len(rows) == table.num_rows + 1 > 1

    run(home, "immr experiment stop")
    listed, kept, named = commands("Earlier tests, and a page to send")
    assert running.name[:12] in run(home, listed)
    for report in (kept, re.sub(r"--test \S+", f"--test {running.name}", named)):
        Path("test.html").unlink()
        run(home, report)
        assert running.name in Path("test.html").read_text()
