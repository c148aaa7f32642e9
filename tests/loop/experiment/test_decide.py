"""Decide: on a real registry, deployer, event log and experiment file."""

from __future__ import annotations

import fcntl
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from typer.testing import CliRunner

from immr.cli import app
from immr.errors import ExperimentError, RegistryError, SettingsError
from immr.experiment.assignment import assign
from immr.experiment.definition import Experiment
from immr.experiment.file import load, save
from immr.loop import watch
from immr.loop.experiment.decide import decide
from immr.loop.experiment.history import history, report
from immr.loop.experiment.ramp import stop
from immr.loop.experiment.recovery import complete_interrupted
from immr.loop.experiment.reports import kept_report
from immr.loop.experiment.running_test import LOCK_TIMEOUT_S
from immr.loop.experiment.start import start
from immr.readout.decision import Decision
from immr.registry.registry import Registry
from immr.settings import Settings
from immr.wiring import Parts, connect
from tests.support.sent_alerts import SentAlerts
from tests.support.two_versions import deployments, give_roles, roles, shop, version_of


def test_a_better_challenger_is_promoted_everywhere(deployed: Settings) -> None:
    running = start(connect(deployed))
    shop(deployed, running, {"champion": 4, "challenger": 12})
    assert decide(connect(deployed)).decision.action == "promote"
    assert roles(deployed) == ("immr-1", "immr-2")  # logged, not applied
    watched = decide(connect(deployed), apply=True)
    assert watched.decision.action == "promote"
    assert roles(deployed) == ("immr-2", None)
    assert deployments(deployed) == {"champion": "immr-2"}
    now = load(deployed.experiment_file)
    assert (now.champion.model_version, now.challenger) == ("immr-2", None)
    assert running.challenger is not None
    assert now.champion.url == running.challenger.url
    assert [each["applied"] for each in connect(deployed).registry.decisions()] == [False, True]


def test_a_better_challenger_waits_for_the_least_time(deployed: Settings) -> None:
    weeks = connect(deployed.model_copy(update={"min_test_days": 7.0}))
    running = start(weeks, 0.2, ramp=(0.5,), ramp_every_s=3600)
    assert (running.min_days, start_again(deployed, min_days=14).min_days) == (7.0, 14)
    save(running, deployed.experiment_file)
    shop(deployed, running, {"champion": 4, "challenger": 12}, users=1200)
    found = decide(weeks, apply=True).decision
    assert (found.action, "needs events of 7 days" in found.reason) == ("wait", True)
    assert load(deployed.experiment_file) == running
    save(replace(running, min_days=0), deployed.experiment_file)
    assert decide(weeks, apply=True).decision.action == "promote"


def start_again(settings: Settings, min_days: float) -> Experiment:
    """Stop the test, and start another with this option."""
    stop(connect(settings))
    options = ["experiment", "start", "--min-days", str(min_days)]
    assert CliRunner().invoke(app, options, env=settings.environment()).exit_code == 0
    return load(settings.experiment_file)


def test_a_process_that_may_not_deploy_promotes_nothing(
    deployed: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page's pod has no token: users got the challenger, registry and deployment kept the old champion."""
    monkeypatch.setenv("KUBECONFIG", str(deployed.home / "none"))
    shop(deployed, start(connect(deployed)), {"champion": 4, "challenger": 12})
    before = load(deployed.experiment_file)
    with pytest.raises(SettingsError, match="tools pod"):
        decide(connect(deployed.model_copy(update={"deploy_url": "kserve://"})), apply=True)
    assert load(deployed.experiment_file) == before
    assert roles(deployed) == ("immr-1", "immr-2")


@pytest.mark.parametrize(
    ("rates", "fails", "reason"),
    [
        ({"champion": 8, "challenger": 2}, False, "loses most of the clicks"),
        ({"champion": 8, "challenger": 8}, True, "fails"),
    ],
)
def test_a_bad_challenger_is_removed(
    deployed: Settings, rates: dict[str, int], fails: bool, reason: str
) -> None:
    shop(deployed, start(connect(deployed)), rates, users=400, fails=fails)
    decision = decide(connect(deployed), apply=True).decision
    assert (decision.action, reason in decision.reason) == ("roll back", True)
    now = load(deployed.experiment_file)
    assert {assign(now, f"user-{number}").model_version for number in range(200)} == {"immr-1"}
    assert roles(deployed) == ("immr-1", None)
    assert deployments(deployed) == {"champion": "immr-1"}
    [written] = connect(deployed).registry.decisions()
    assert (written["action"], written["challenger"]) == ("roll back", "immr-2")
    assert written["reason"] == decision.reason


class RegistryDown:
    """A registry that refuses to write."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def __getattr__(self, name: str) -> Any:
        if name in ("record_decision", "clear_role"):
            raise RegistryError("MLflow does not answer")
        return getattr(self._registry, name)


def test_a_bad_challenger_loses_its_users_while_the_registry_is_down(deployed: Settings) -> None:
    shop(deployed, start(connect(deployed)), {"champion": 8, "challenger": 2}, users=400)
    sent = SentAlerts()
    down = RegistryDown(connect(deployed).registry)
    with pytest.raises(RegistryError):
        decide(Parts.of(deployed, registry=down, alerts=sent), apply=True)
    assert load(deployed.experiment_file).state == "stopped"
    assert sent.titles == ["immr-2 was rolled back"] and "its CTR per user is" in sent.alerts[0].text
    assert [past.outcome for past in history(connect(deployed))] == ["rolled back"]
    assert deployments(deployed) == {"champion": "immr-1", "challenger": "immr-2"}

    decide(Parts.of(deployed, alerts=sent), apply=True)
    assert roles(deployed) == ("immr-1", None)
    assert deployments(deployed) == {"champion": "immr-1"}
    assert [each["action"] for each in connect(deployed).registry.decisions()] == ["roll back"]
    assert len(sent.alerts) == 1


def test_an_interrupted_removal_spares_a_later_challenger(deployed: Settings) -> None:
    shop(deployed, start(connect(deployed)), {"champion": 8, "challenger": 2}, users=400)
    with pytest.raises(RegistryError):
        decide(Parts.of(deployed, registry=RegistryDown(connect(deployed).registry)), apply=True)
    version_of(connect(deployed).registry, deployed.home / "trained", "key-3")
    give_roles(deployed, {"challenger": "immr-3"})
    decide(connect(deployed), apply=True)
    assert roles(deployed) == ("immr-1", "immr-3")
    assert deployments(deployed) == {"champion": "immr-1", "challenger": "immr-3"}


def test_a_promotion_killed_before_users_moved_leaves_nothing_behind(
    deployed: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Log and registry had the new champion already, and a test that was then stopped by hand left them so."""
    running = start(connect(deployed))
    shop(deployed, running, {"champion": 4, "challenger": 12})
    with monkeypatch.context() as crash:
        crash.setattr("immr.loop.experiment.save_change.save", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            decide(connect(deployed), apply=True)
    assert load(deployed.experiment_file) == running
    with monkeypatch.context() as doubt:
        doubt.setattr("immr.readout.decision.decide", lambda *_: Decision("wait", "Too early.", {}))
        assert decide(connect(deployed), apply=True, record_wait=False).decision.action == "wait"
    assert connect(deployed).registry.decisions() == []
    assert (roles(deployed), deployments(deployed)) == (
        ("immr-1", "immr-2"),
        {"champion": "immr-1", "challenger": "immr-2"},
    )
    assert [event.what for event in history(connect(deployed))[0].events] == ["started"]
    assert running.name in report(connect(deployed))
    assert not kept_report(connect(deployed), running.name).exists(), "of a test that is still running"


@pytest.mark.parametrize("rate", [2, 12])
def test_a_verdict_that_is_killed_before_it_is_noted_is_in_the_history(
    deployed: Settings, monkeypatch: pytest.MonkeyPatch, rate: int
) -> None:
    """The test of a challenger that was rolled back had no end in the history if the process was killed here."""
    shop(deployed, start(connect(deployed)), {"champion": 6, "challenger": rate}, users=800)
    with monkeypatch.context() as killed:
        killed.setattr("immr.loop.experiment.save_change.complete_change", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            decide(connect(deployed), apply=True)
    [past] = history(connect(deployed))
    assert past.outcome == ("promoted" if rate == 12 else "rolled back")
    complete_interrupted(connect(deployed))
    champion = "immr-2" if rate == 12 else "immr-1"
    assert (roles(deployed), deployments(deployed)) == ((champion, None), {"champion": champion})
    assert len(history(connect(deployed))[0].events) == 2


def test_an_ended_experiment_gets_no_further_decision(deployed: Settings) -> None:
    shop(deployed, start(connect(deployed)), {"champion": 8, "challenger": 2}, users=400)
    decide(connect(deployed), apply=True)
    again = decide(connect(deployed), apply=True).decision
    assert (again.action, "nothing to decide" in again.reason) == ("wait", True)
    assert len(connect(deployed).registry.decisions()) == 1


def test_a_loss_is_logged_as_recommended_and_then_as_applied(deployed: Settings) -> None:
    """Only the recommendation was logged, with the time of the first look."""
    shop(deployed, start(connect(deployed)), {"champion": 8, "challenger": 2}, users=400)
    run = CliRunner(env={**deployed.environment(), "COLUMNS": "200"}).invoke
    assert "`immr experiment decide --apply` carries this out" in run(app, ["experiment", "decide"]).stderr
    assert "carries this out" not in run(app, ["experiment", "decide", "--apply"]).stderr
    entries = connect(deployed).registry.decisions()
    assert [(each["action"], each["applied"]) for each in entries] == [
        ("roll back", False),
        ("roll back", True),
    ]


def test_waiting_is_logged_only_on_request(deployed: Settings) -> None:
    start(connect(deployed))
    assert decide(connect(deployed), apply=True, record_wait=False).decision.action == "wait"
    assert connect(deployed).registry.decisions() == []
    decide(connect(deployed), apply=True)
    assert len(connect(deployed).registry.decisions()) == 1
    assert roles(deployed) == ("immr-1", "immr-2")


def test_one_process_at_a_time_changes_the_experiment(deployed: Settings) -> None:
    start(connect(deployed))
    verbs = (start, stop, decide)
    with (
        deployed.experiment_file.with_suffix(".lock").open("a") as other,
        ThreadPoolExecutor(len(verbs)) as pool,
    ):
        fcntl.flock(other, fcntl.LOCK_EX)
        for refused in [pool.submit(verb, connect(deployed)) for verb in verbs]:
            with pytest.raises(ExperimentError, match="another process is changing the test"):
                refused.result()
    assert stop(connect(deployed)).state == "stopped"


def test_the_watchdog_outlives_an_error(deployed: Settings) -> None:
    """`decide --every` once died at the first error, and then guarded nothing."""
    running = start(connect(deployed))
    shop(deployed, running, {"champion": 4, "challenger": 12})
    command = ["experiment", "decide", "--apply", "--every", "1s", "--json"]
    with deployed.experiment_file.with_suffix(".lock").open("a") as other, ThreadPoolExecutor(1) as pool:
        fcntl.flock(other, fcntl.LOCK_EX)
        held = pool.submit(
            CliRunner(env={"IMMR_HOME": str(deployed.home), "IMMR_MIN_TEST_DAYS": "0"}).invoke, app, command
        )
        with pytest.raises(TimeoutError):
            held.result(timeout=LOCK_TIMEOUT_S + 0.5)  # by now the first attempt has failed
        fcntl.flock(other, fcntl.LOCK_UN)
        assert json.loads(held.result(timeout=60).stdout)["decision"]["action"] == "promote"
    assert roles(deployed) == ("immr-2", None)


def test_cuped_uses_what_users_did_before_the_test(deployed: Settings) -> None:
    alone = connect(deployed).registry
    alone.clear_role("challenger")
    before = start(connect(deployed))
    assert before.started is not None
    shop(deployed, before, {"champion": 8}, users=300)
    alone.set_role("challenger", alone.get("immr-2"))
    running = start(connect(deployed))
    later = replace(running, started=before.started + timedelta(hours=1))
    save(later, deployed.experiment_file)
    shop(deployed, later, {"champion": 9, "challenger": 9}, users=300)
    readout = watch.read_out(connect(deployed)).readout
    assert readout.ctr is not None
    assert readout.arms[0].cuped is not None
    steady, plain = readout.arms[0].cuped.interval, readout.ctr.interval
    assert steady.high - steady.low < 0.6 * (plain.high - plain.low)
    assert sum(side.queries for side in readout.variants) == 300


def test_on_the_command_line(deployed: Settings) -> None:
    run = CliRunner(env={"IMMR_HOME": str(deployed.home), "IMMR_MIN_TEST_DAYS": "0"}).invoke
    assert "challenger immr-2 10%" in " ".join(
        run(app, ["experiment", "start", "--share", "10%"]).output.split()
    )
    assert run(app, ["experiment", "ramp", "--share", "0.5"]).exit_code == 0
    shop(deployed, load(deployed.experiment_file), {"champion": 4, "challenger": 12})
    shown = run(app, ["experiment", "readout"]).output
    assert all(
        word in shown
        for word in (
            *("A/B readout", "Other metrics", "CTR@1", "number of looks", "promote"),
            *("Sample ratio and guardrails", "users by weight", "the users match the shares (p ="),
        )
    )
    decided = json.loads(run(app, ["experiment", "decide", "--apply", "--json"]).output)
    assert decided["decision"]["action"] == "promote"
    assert decided["readout"]["by_rank"][0]["position"] == 1
    assert run(app, ["experiment", "stop"]).exit_code == 0
    assert roles(deployed) == ("immr-2", None)


def test_decisions_name_their_test(deployed: Settings) -> None:
    for _ in range(2):
        running = start(connect(deployed))
        decide(connect(deployed))
        assert connect(deployed).registry.decisions()[-1]["experiment"] == running.name
        stop(connect(deployed))


def ramping(settings: Settings) -> Experiment:
    """A test at 20 % whose first step is over."""
    begun = start(connect(settings), 0.2, ramp=(0.5,), ramp_every_s=3600)
    assert begun.started is not None
    over = replace(begun, started=begun.started - timedelta(hours=2))
    save(over, settings.experiment_file)
    return over


def test_a_ramp_moves_on_while_guardrails_hold(deployed: Settings) -> None:
    begun = ramping(deployed)
    assert decide(connect(deployed), apply=True).decision.action == "wait"
    assert load(deployed.experiment_file) == begun  # nobody has seen the challenger yet
    shop(deployed, begun, {"champion": 8, "challenger": 8}, users=200)
    decide(connect(deployed))
    assert load(deployed.experiment_file) == begun  # not applied
    decide(connect(deployed), apply=True)
    moved = load(deployed.experiment_file)
    assert moved.challenger is not None
    assert (moved.challenger.weight, moved.ramp, moved.salt) == (0.5, (), begun.salt)
    decide(connect(deployed), apply=True)
    assert load(deployed.experiment_file) == moved


@pytest.mark.parametrize(
    ("rates", "fails"),
    [({"champion": 8, "challenger": 1}, False), ({"champion": 8, "challenger": 8}, True)],
)
def test_a_ramp_ends_at_a_loss(deployed: Settings, rates: dict[str, int], fails: bool) -> None:
    shop(deployed, ramping(deployed), rates, users=1200, fails=fails)
    assert decide(connect(deployed), apply=True).decision.action == "roll back"
    assert load(deployed.experiment_file).state == "stopped"
    assert roles(deployed) == ("immr-1", None)


@pytest.mark.parametrize(
    ("ramp", "every"), [("one,two", "6h"), ("1", "6h"), ("1%,5%", "soon"), ("1%,5%", "0h")]
)
def test_a_wrong_ramp_is_wrong_usage(deployed: Settings, ramp: str, every: str) -> None:
    run = CliRunner(env={"IMMR_HOME": str(deployed.home)}).invoke
    assert run(app, ["experiment", "start", "--ramp", ramp, "--every", every]).exit_code == 2
    assert not deployed.experiment_file.exists()


def test_a_ramp_starts_on_the_command_line(deployed: Settings) -> None:
    run = CliRunner(env={"IMMR_HOME": str(deployed.home)}).invoke
    done = run(app, ["experiment", "start", "--ramp", "1%,5%,25%,50%", "--every", "6h", "--json"])
    begun = load(deployed.experiment_file)
    assert json.loads(done.stdout)["ramp"] == [0.05, 0.25, 0.5]
    assert begun.challenger is not None
    assert (begun.challenger.weight, begun.ramp_every_s) == (0.01, 21_600)


def test_one_of_several_challengers_leaves_and_the_others_go_on(three_challengers: Settings) -> None:
    settings = three_challengers
    running = start(connect(settings))
    shop(settings, running, {"challenger": 0}, users=2000)
    watched = decide(connect(settings), apply=True)
    assert watched.decision.action == "wait"
    now = load(settings.experiment_file)
    assert [side.name for side in now.remaining] == ["challenger-2", "challenger-3"]
    assert (now.state, now.salt) == ("running", running.salt)
    assert deployments(settings) == {"champion": "immr-1", "challenger-2": "immr-3", "challenger-3": "immr-4"}
    assert set(connect(settings).registry.roles()) == {"champion", "challenger-2", "challenger-3"}
    [recorded] = connect(settings).registry.decisions()
    assert (recorded["action"], recorded["challenger"]) == ("roll back", "immr-2")
    [past] = history(connect(settings))
    assert (past.outcome, [event.what for event in past.events]) == ("running", ["started", "ended"])

    shop(settings, now, {"challenger-3": 12}, users=2000, visit=1)
    assert decide(connect(settings), apply=True).decision.action == "promote"
    assert deployments(settings) == {"champion": "immr-4"}
    assert {role: each.id for role, each in connect(settings).registry.roles().items()} == {
        "champion": "immr-4"
    }
    [past] = history(connect(settings))
    assert (past.outcome, past.winner, past.challenger) == ("promoted", "immr-4", "immr-2, immr-3, immr-4")
    ended = load(settings.experiment_file)
    assert (ended.champion.model_version, ended.challengers) == ("immr-4", ())


def test_a_test_of_losers_ends_and_all_are_removed(three_challengers: Settings) -> None:
    settings = three_challengers
    running = start(connect(settings))
    shop(
        settings, running, {"champion": 12, "challenger": 1, "challenger-2": 0, "challenger-3": 1}, users=2400
    )
    assert decide(connect(settings), apply=True).decision.action == "roll back"
    assert load(settings.experiment_file).state == "stopped"
    assert deployments(settings) == {"champion": "immr-1"}
    recorded = connect(settings).registry.decisions()
    assert [each["challenger"] for each in recorded] == ["immr-2", "immr-3", "immr-4"]
    assert history(connect(settings))[0].outcome == "rolled back"


def test_every_challenger_of_several_is_shown(three_challengers: Settings) -> None:
    settings = three_challengers
    shop(settings, start(connect(settings)), {"challenger-2": 6}, users=1200)
    run = CliRunner(env={"IMMR_HOME": str(settings.home)}).invoke
    shown = run(app, ["experiment", "readout"]).output
    for name in ("challenger: difference", "challenger-2: difference", "challenger-3: at every look"):
        assert name in shown
    csv = run(app, ["experiment", "readout", "--by", "rank", "--csv"]).output.splitlines()
    column = csv[0].split(",").index("variant")
    assert {line.split(",")[column] for line in csv[1:]} == {"challenger", "challenger-2", "challenger-3"}
    page = report(connect(settings))
    assert all(f"immr-{number} (challenger" in page for number in (2, 3, 4))
    assert "at all challengers" in page


def test_people_hear_once_what_decide_would_do(deployed: Settings) -> None:
    shop(deployed, start(connect(deployed)), {"champion": 4, "challenger": 12}, users=800)
    sent = SentAlerts()
    for _ in range(2):
        assert decide(Parts.of(deployed, alerts=sent)).decision.action == "promote"
    assert sent.titles == ["immr-2: decided to promote"]
    assert "`immr experiment decide --apply` carries it out." in sent.alerts[0].text
    decide(Parts.of(deployed, alerts=sent), apply=True)
    assert sent.titles[1:] == ["immr-2 is the new champion"]
