"""Noting: a process that is killed between a change and its line in the history loses neither."""

import pytest

from immr.loop.experiment.history import history
from immr.loop.experiment.ramp import ramp, stop
from immr.loop.experiment.start import start
from immr.settings import Settings
from immr.wiring import connect


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
        for module in ("noting", "ramp"):
            killed.setattr(f"immr.loop.experiment.{module}.complete_notes", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run()
    [past] = history(parts)
    happened = {"start": "started", "ramp": "ramped", "stop": "stopped"}
    assert [event.what for event in past.events] == [happened[each] for each in verbs][: len(past.events)]
    assert past.events[-1].what == happened[verb]
    assert (past.outcome == "stopped") is (verb == "stop")
