"""History: every verb leaves its line, and each ended test its report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from immr.cli import app
from immr.errors import ExperimentError
from immr.loop.experiment import history
from immr.loop.experiment.decide import decide
from immr.loop.experiment.ramp import ramp, stop
from immr.loop.experiment.rollback import roll_back
from immr.loop.experiment.start import start
from immr.settings import Settings
from immr.wiring import connect
from tests.support.two_versions import shop


def test_a_promoted_test_and_its_rollback(deployed: Settings, tmp_path: Path) -> None:
    parts = connect(deployed)
    start(parts, share=0.1)
    running = ramp(parts, 0.5)
    shop(deployed, running, {"champion": 4, "challenger": 12}, users=800)
    assert decide(parts, apply=True).decision.action == "promote"
    [past] = history.history(parts)
    assert (past.outcome, past.shares) == ("promoted", (0.1, 0.5))
    assert past.reason.startswith("The challenger is better") and past.numbers["users_champion"] > 300
    assert past.started_by and past.ended is not None

    run = CliRunner(env={"IMMR_HOME": str(deployed.home)}).invoke
    out = tmp_path / "sent.html"
    assert run(app, ["experiment", "report", "--test", past.name, "--out", str(out)]).exit_code == 0
    assert "The challenger is better" in out.read_text() and "promoted" in out.read_text()

    assert history.report(parts) == out.read_text(), "once the challenger is champion, this is the last test"
    with pytest.raises(ExperimentError, match="is over"):
        history.report(parts, by=["day"])
    readout = run(app, ["experiment", "readout"])
    assert f"the result of the last one, {past.name}" in readout.stderr

    roll_back(parts)
    kept = history.report(parts, past.name)
    assert kept.index("<strong>Undone on") < kept.index(
        "immr-2 was rolled back by hand: all users get immr-1"
    )
    assert kept.index("all users get immr-1") < kept.index("<strong>Promote.</strong>")
    assert kept.index("promoted: immr-2") < kept.index("undone: immr-2") < kept.index("</main>")

    history.kept_report(parts, past.name).unlink()
    with pytest.raises(ExperimentError, match="these have one: none"):
        history.report(parts)

    [undone] = history.history(parts)
    assert undone.outcome == "promoted, undone later"
    [row] = json.loads(run(app, ["experiment", "history", "--json"]).stdout)
    assert (row["name"], row["champion"], row["challenger"]) == (past.name, "immr-1", "immr-2")
    listed = run(app, ["experiment", "history"]).stdout
    assert f"\n{past.name}: The challenger is better: " in listed


def test_a_second_rollback_restores_what_the_first_one_undid(deployed: Settings) -> None:
    parts = connect(deployed)
    running = start(parts)
    shop(deployed, running, {"champion": 4, "challenger": 12}, users=800)
    assert decide(parts, apply=True).decision.action == "promote"
    outcomes = []
    for _ in range(4):
        roll_back(parts)
        [past] = history.history(parts)
        outcomes.append(past.outcome)
    assert outcomes == ["promoted, undone later", "promoted, undone, then restored"] * 2
    assert [event.what for event in past.events[-4:]] == ["undone", "restored"] * 2
    kept = history.report(parts, past.name)
    assert kept.count("<strong>Undone on") == kept.count("<strong>Restored on") == 2
    assert kept.rindex("<strong>Undone on") < kept.rindex("<strong>Restored on") < kept.index("Promote.")


def test_a_stopped_test_is_kept_apart_from_the_next_one(deployed: Settings, tmp_path: Path) -> None:
    parts = connect(deployed)
    first = start(parts)
    stop(parts)
    stop(parts)  # nothing runs, so nothing ends
    second = start(parts)
    newest, oldest = history.history(parts)
    assert (newest.name, newest.outcome) == (second.name, "running")
    assert (oldest.name, oldest.outcome, len(oldest.events)) == (first.name, "stopped", 2)
    assert first.name in history.report(parts, first.name)
    assert second.name in history.report(parts, second.name)
    assert second.name in history.report(parts)


@pytest.mark.parametrize("name", ["nothing", "../../etc/passwd", ".hidden"])
def test_an_unknown_test_has_no_report(deployed: Settings, name: str) -> None:
    start(connect(deployed))
    with pytest.raises(ExperimentError, match="test"):
        history.report(connect(deployed), name)


def test_a_champion_alone_is_no_test(deployed: Settings) -> None:
    parts = connect(deployed)
    parts.registry.clear_role("challenger")
    start(parts)
    assert history.history(parts) == []
    with pytest.raises(ExperimentError, match="there has been no test"):
        history.report(parts)
