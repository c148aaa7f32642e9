"""Rollback: on a real registry, deployer and experiment file."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest

from immr.errors import ExperimentError
from immr.experiment.definition import Experiment
from immr.experiment.file import load, save
from immr.loop.experiment.decide import _promote, decide
from immr.loop.experiment.history import history, report
from immr.loop.experiment.reports import kept_report
from immr.loop.experiment.rollback import roll_back
from immr.loop.experiment.start import start
from immr.loop.watch import read_out
from immr.readout.decision import Verdict
from immr.settings import Settings
from immr.wiring import Parts, connect
from tests.support.sent_alerts import SentAlerts
from tests.support.two_versions import deployments, give_roles, move, ready, roles, shop, version_of


def promoted(settings: Settings, before: str) -> Experiment:
    """immr-2 is the champion; immr-1, its predecessor, is recorded at an address."""
    begun = start(connect(settings))
    champion = replace(begun.champion, url=before)
    running = replace(begun, variants=(champion, begun.variants[1]))
    save(running, settings.experiment_file)
    assert running.challenger is not None
    verdict = Verdict("challenger", "promote", "It is better.")
    _promote(connect(settings), read_out(connect(settings)), verdict)
    assert (roles(settings), deployments(settings)) == (("immr-2", None), {"champion": "immr-2"})
    return load(settings.experiment_file)


def test_rollback_restores_the_previous_champion_everywhere(deployed: Settings) -> None:
    with ready("immr-1") as url:
        promoted(deployed, url)
        sent = SentAlerts()
        back = roll_back(Parts.of(deployed, alerts=sent))
    assert sent.titles == ["immr-2 was rolled back by hand"]
    assert load(deployed.experiment_file) == back
    assert (back.champion.model_version, back.champion.url) == ("immr-1", url)
    assert roles(deployed) == ("immr-1", None)
    assert deployments(deployed) == {"champion": "immr-1"}
    assert "rolled back by hand" in connect(deployed).registry.decisions()[-1]["reason"]


def test_rollback_is_refused_if_another_version_serves_at_the_address(deployed: Settings) -> None:
    with ready("immr-2") as url:  # as after a restart, when the champion gets its port back
        before = promoted(deployed, url)
        with pytest.raises(
            ExperimentError, match=r"immr-2 serves there.*immr deploy --model immr-1.*immr serve"
        ):
            roll_back(connect(deployed))
    assert load(deployed.experiment_file) == before
    assert roles(deployed) == ("immr-2", None)


def test_an_interrupted_rollback_is_completed_and_not_undone(
    deployed: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    away = deployed.model_copy(update={"tracking_url": "http://127.0.0.1:9"})
    with ready("immr-1") as url:
        promoted(deployed, url)
        for _ in range(2):
            with pytest.raises(ExperimentError, match="all users get immr-1 again, but registry"):
                roll_back(connect(away))
            assert load(deployed.experiment_file).champion.model_version == "immr-1"
        assert roles(deployed) == ("immr-2", None)
        with pytest.raises(ExperimentError, match="registry and deployment were not updated"):
            start(connect(away))
        assert roll_back(connect(deployed)).champion.model_version == "immr-1"
        assert roles(deployed) == ("immr-1", None)
        assert deployments(deployed) == {"champion": "immr-1"}
    with ready("immr-2") as url:  # once complete, the next call is a new rollback
        back = load(deployed.experiment_file)
        assert back.previous is not None
        save(replace(back, previous=replace(back.previous, url=url)), deployed.experiment_file)
        assert roll_back(connect(deployed)).champion.model_version == "immr-2"


def test_rollback_is_refused_if_the_previous_champion_does_not_answer(deployed: Settings) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound but not listening
        before = promoted(deployed, f"http://127.0.0.1:{held.getsockname()[1]}")
        with pytest.raises(ExperimentError, match=r"immr-1 at \S+ cannot serve"):
            roll_back(connect(deployed))
    assert load(deployed.experiment_file) == before


def test_a_killed_rollback_is_in_the_history_and_completed_by_the_next_decision(
    deployed: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lines of the history were lost, because they were only written after the experiment had changed."""
    with ready("immr-1") as url:
        promoted(deployed, url)
        with monkeypatch.context() as killed:
            killed.setattr("immr.loop.experiment.save_change.complete_change", lambda _: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                roll_back(connect(deployed))
    assert (load(deployed.experiment_file).champion.model_version, roles(deployed)) == (
        "immr-1",
        ("immr-2", None),
    )
    decide(connect(deployed), apply=True)
    decide(connect(deployed), apply=True)
    [past] = history(connect(deployed))
    assert [event.what for event in past.events] == ["started", "promoted", "undone"]
    assert report(connect(deployed), past.name).count("<strong>Undone on") == 1
    assert (roles(deployed), deployments(deployed)) == (("immr-1", None), {"champion": "immr-1"})
    assert [each["action"] for each in connect(deployed).registry.decisions()] == ["promote", "roll back"]


def test_a_rollback_killed_before_the_experiment_changed_leaves_nothing(
    deployed: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ready("immr-1") as url:
        before = promoted(deployed, url)
        with monkeypatch.context() as killed:
            killed.setattr("immr.loop.experiment.save_change.save", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                roll_back(connect(deployed))
    decide(connect(deployed), apply=True)
    [past] = history(connect(deployed))
    assert (past.outcome, load(deployed.experiment_file)) == ("promoted", before)
    assert {file.name for file in deployed.experiment_file.parent.glob("*ing")} == set()


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_test_that_a_rollback_ends_keeps_its_report(
    deployed: Settings, monkeypatch: pytest.MonkeyPatch, is_killed: bool
) -> None:
    """Its history had no result, and `immr experiment report` had nothing to show."""
    parts = connect(deployed)
    version_of(parts.registry, deployed.home / "trained", "key-3")
    with ready("immr-1") as before, ready("immr-3") as challenger:
        promotion = promoted(deployed, before)
        give_roles(deployed, {"challenger": "immr-3"})
        move(deployed, {"immr-3": challenger})
        running = start(parts)
        shop(deployed, running, {"champion": 6, "challenger": 6}, users=300, every_s=1e-4)
        if is_killed:
            with monkeypatch.context() as killed:
                killed.setattr("immr.loop.experiment.save_change.complete_change", lambda _: 1 / 0)
                with pytest.raises(ZeroDivisionError):
                    roll_back(parts)
            decide(parts, apply=True)
        else:
            roll_back(parts)
    ended, undone = history(parts)
    assert (ended.name, ended.outcome) == (running.name, "rolled back")
    assert ended.reason.startswith("All users get immr-1 again, by hand. Too few users:")
    assert ended.numbers
    page = report(parts, ended.name)
    assert "immr-3 (challenger, 50 % of the users)" in page and ">rolled back</th>" in page
    assert kept_report(parts, ended.name).is_file()
    assert undone.outcome == "promoted, undone later" and promotion.champion.model_version == "immr-2"
    assert "<strong>Undone on" in report(parts, undone.name) and running.name not in report(
        parts, undone.name
    )
    assert not list(deployed.experiment_file.parent.glob("ended*"))
