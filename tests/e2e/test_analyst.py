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
from immr.index.qdrant import QdrantIndex
from immr.settings import Settings
from immr.wiring import connect
from tests.support.two_versions import (
    EveryCollection,
    champion_and_challenger,
    deployments,
    give_roles,
    move,
    packaged_parts,
    ready,
    shop,
    version_of,
)

PAGES = [
    Path(__file__).parents[2] / "docs" / f"{name}.md"
    for name in ("experiments", "experiment-kinds", "events")
]


def commands(section: str) -> list[str]:
    """The commands of a section's first block, one each, without comments."""
    pages = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    text = pages.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    block = text.split("```")[1]
    lines = [line.partition("#")[0] for line in block.splitlines()]
    parts = [command.strip() for line in lines for command in line.split(";")]
    return [command for command in parts if command.startswith("immr ")]


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
    environment = {"IMMR_HOME": str(home.home), "IMMR_CHALLENGERS": str(home.challengers)}
    done = CliRunner(env=environment).invoke(app, shlex.split(words)[1:])
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


def test_three_challengers_are_deployed_tested_and_decided_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a version that comes during the test waits, and is dropped."""
    monkeypatch.setattr(QdrantIndex, "content", EveryCollection.content)
    settings = Settings(home=tmp_path / "home", challengers=3)
    versions = [f"immr-{number}" for number in range(1, 6)]
    for version in versions:
        version_of(connect(settings).registry, tmp_path / "trained", version)
    packaged_parts(settings, *versions)
    give_roles(settings, {"champion": "immr-1"})
    *deploy, start, readout, decide = commands("Several challengers")
    with ExitStack() as serving:
        for command in deploy:
            run(settings, command)
        assert len(deploy) == 3
        move(settings, {each: serving.enter_context(ready(each)) for each in versions[:4]})
        run(settings, start)
        running = load(settings.experiment_file)
        assert [each.model_version for each in running.variants] == versions[:4]
        assert [each.weight for each in running.variants] == [0.25] * 4
        shop(
            settings,
            running,
            {"champion": 9, "challenger": 1, "challenger-2": 9, "challenger-3": 9},
            users=3000,
        )
        read = run(settings, readout)
        assert all(re.search(rf"{name}\W+{version}", read) for name, version in deployments(settings).items())
        decided = run(settings, decide)
        assert "roll back (immr-2)" in decided and "wait (immr-3)" in decided
        assert [bool(each.ended) for each in load(settings.experiment_file).variants] == [
            False, True, False, False,
        ]  # fmt: skip

        waits, drop = commands("The next version waits")
        run(settings, "immr deploy --model immr-5")
        assert "immr-5" in run(settings, waits)
        run(settings, drop.replace("immr-4", "immr-5"))
        assert "no version waits" in run(settings, waits)
