"""The holdout: users who always get the champion, compared with all others over all tests."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from immr.cli import app
from immr.errors import ExperimentError
from immr.loop.experiment.holdout import read_holdout
from immr.loop.experiment.ramp import stop
from immr.loop.experiment.start import start
from immr.settings import Settings
from immr.wiring import connect
from tests.support.two_versions import shop


def test_it_is_compared_with_the_users_of_all_tests(deployed: Settings) -> None:
    """Users of a challenger that loses clicks pull down all others, and the holdout has seen only champions."""
    first = start(connect(deployed), holdout=0.3)
    shop(deployed, first, {"holdout": 10, "champion": 10, "challenger": 0}, users=1200)
    stop(connect(deployed))
    second = start(connect(deployed))
    shop(deployed, second, {"holdout": 10, "champion": 10, "challenger": 0}, users=1200, visit=1)
    found = read_holdout(connect(deployed))
    held_out, others = found.readout.variants
    assert held_out.users + others.users == 1200
    assert found.readout.sample_ratio is not None and found.readout.sample_ratio.ok
    ctr = found.readout.ctr
    assert ctr is not None and ctr.champion == pytest.approx(0.1, abs=0.02)
    assert ctr.challenger == pytest.approx(0.05, abs=0.02) and ctr.always_valid.high < 0

    run = CliRunner(env={"IMMR_HOME": str(deployed.home)}).invoke
    shown = run(app, ["experiment", "holdout"]).stdout
    assert "30.0% of all users are held out" in shown and "all others" in shown
    assert json.loads(run(app, ["experiment", "holdout", "--json"]).stdout)["holdout"]["share"] == 0.3


def test_the_test_itself_leaves_its_users_out(deployed: Settings) -> None:
    from immr.loop.watch import read_out

    running = start(connect(deployed), holdout=0.3)
    shop(deployed, running, {}, users=900)
    readout = read_out(connect(deployed)).readout
    assert sum(side.users for side in readout.variants) == pytest.approx(630, abs=60)
    assert readout.foreign_queries == 0
    assert readout.sample_ratio is not None and readout.sample_ratio.ok


def test_an_empty_holdout_is_named_as_such(deployed: Settings) -> None:
    start(connect(deployed), holdout=0.05)
    withheld = read_holdout(connect(deployed)).readout.withheld
    assert withheld == "the holdout has no users so far"


def test_without_one_there_is_nothing_to_read(deployed: Settings) -> None:
    start(connect(deployed))
    with pytest.raises(ExperimentError, match="--holdout 5%"):
        read_holdout(connect(deployed))
