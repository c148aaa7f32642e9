"""Noting: a process that is killed right after a change loses neither its line in the history, report nor alert."""

from __future__ import annotations

from html import escape

import pytest

from immr.alerts.alert import Alert
from immr.loop.experiment.decide import decide
from immr.loop.experiment.history import history, report
from immr.loop.experiment.ramp import ramp, stop
from immr.loop.experiment.reports import kept_report
from immr.loop.experiment.rollback import roll_back
from immr.loop.experiment.save_change import complete_change
from immr.loop.experiment.start import start
from immr.settings import Settings
from immr.wiring import Parts, connect
from tests.support.sent_alerts import SentAlerts
from tests.support.two_versions import shop


@pytest.mark.parametrize("verb", ["start", "ramp", "stop"])
def test_a_verb_that_is_killed_after_the_experiment_changed_is_in_the_history(
    deployed: Settings, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """Each left its line to chance: a stopped test could be listed as running for ever."""
    parts = connect(deployed)
    verbs = {
        "start": lambda: start(parts, 0.1),
        "ramp": lambda: ramp(parts, 0.5),
        "stop": lambda: stop(parts),
    }
    for name, run in verbs.items():
        if name == verb:
            break
        run()
    with monkeypatch.context() as killed:
        killed.setattr("immr.loop.experiment.save_change.complete_change", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run()
    [past] = history(parts)
    happened = {"start": "started", "ramp": "ramped", "stop": "stopped"}
    assert [event.what for event in past.events] == [happened[each] for each in verbs][: len(past.events)]
    assert past.events[-1].what == happened[verb]
    assert (past.outcome == "stopped") is (verb == "stop")


class Killed(BaseException):
    """The process ends here."""


class KilledBeforeSending:
    """`Alerts` whose process ends before an alert is written down."""

    def send(self, alert: Alert) -> None:
        raise Killed

    def resume(self) -> None:
        pass


@pytest.mark.parametrize(
    ("rate", "title"), [(2, "immr-2 was rolled back"), (12, "immr-2 is the new champion")]
)
@pytest.mark.parametrize("before_the_report", [False, True])
def test_report_and_alert_of_a_decision_survive_a_kill(
    deployed: Settings, monkeypatch: pytest.MonkeyPatch, rate: int, title: str, before_the_report: bool
) -> None:
    """Both were lost if the process ended after the decision was in the history."""
    shop(deployed, start(connect(deployed)), {"champion": 6, "challenger": rate}, users=800)
    with monkeypatch.context() as killed:
        if before_the_report:
            killed.setattr("immr.loop.experiment.save_change.keep_report", _die)
        with pytest.raises(Killed):
            decide(Parts.of(deployed, alerts=KilledBeforeSending()), apply=True)
    sent = SentAlerts()
    for _ in range(2):
        [past] = history(Parts.of(deployed, alerts=sent))
    assert sent.titles == [title]
    assert escape(past.reason) in report(connect(deployed), past.name).replace("&#39;", "&#x27;")
    assert kept_report(connect(deployed), past.name).is_file()


def test_the_report_of_a_stopped_test_survives_a_kill(
    deployed: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop(deployed, start(connect(deployed)), {"champion": 6, "challenger": 6}, users=300, every_s=1e-4)
    with monkeypatch.context() as killed:
        killed.setattr("immr.loop.experiment.save_change.read_out", _die)
        with pytest.raises(Killed):
            stop(connect(deployed))
    start(connect(deployed))
    past = history(connect(deployed))[-1]
    assert (past.outcome, past.reason[:14]) == ("stopped", "Too few users:")
    assert "<strong>Stopped.</strong>" in report(connect(deployed), past.name)


def test_a_readout_that_ends_the_process_does_not_end_every_later_command(
    deployed: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that needs more memory than there is."""
    start(connect(deployed))
    with monkeypatch.context() as killed:
        killed.setattr("immr.loop.experiment.save_change.read_out", _die)
        for command in (stop, complete_change):
            with pytest.raises(Killed):
                command(connect(deployed))
        assert stop(connect(deployed)).state == "stopped"
    assert [event.what for event in history(connect(deployed))[0].events] == ["started", "stopped"]


def test_the_alert_of_a_rollback_survives_a_kill(deployed: Settings) -> None:
    shop(deployed, start(connect(deployed)), {"champion": 4, "challenger": 12}, users=800)
    decide(connect(deployed), apply=True)
    with pytest.raises(Killed):
        roll_back(Parts.of(deployed, alerts=KilledBeforeSending()))
    sent = SentAlerts()
    decide(Parts.of(deployed, alerts=sent), apply=True)
    assert sent.titles == ["immr-2 was rolled back by hand"]


def _die(*_: object, **__: object) -> None:
    raise Killed
