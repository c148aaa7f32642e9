"""Completing: whatever is killed, and whatever command comes next, all records agree in the end."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmarks.experiment.crash_points import Killed, Mortal
from immr.experiment.file import load
from immr.loop.deploy import deploy
from immr.loop.experiment.decide import decide
from immr.loop.experiment.history import history
from immr.loop.experiment.ramp import stop
from immr.loop.experiment.recovery import complete_interrupted
from immr.loop.experiment.start import start
from immr.packaging.bento import tag_of
from immr.settings import Settings
from immr.wiring import Parts, connect
from tests.support.two_versions import deployments, packaged_parts, roles, shop, version_of


def kill_at_change(settings: Settings, number: int) -> bool:
    """Decide and apply; the process is killed before this change of registry or deployments. Whether it was."""
    lives = iter(range(number, -1_000, -1))
    parts = connect(settings)
    mortal = {name: Mortal(getattr(parts, name), lives) for name in ("registry", "deployer")}
    try:
        decide(Parts.of(settings, **mortal), apply=True)
    except Killed:
        return True
    return False


def check_agreement(settings: Settings) -> None:
    """Experiment, history, promotion log, registry and deployments are about the same champion."""
    [past] = history(connect(settings))
    champion = load(settings.experiment_file).champion.model_version
    logged = [each["action"] for each in connect(settings).registry.decisions() if each["applied"]]
    assert roles(settings)[0] == deployments(settings)["champion"] == champion
    if past.outcome == "promoted":
        assert (champion, logged) == ("immr-2", ["promote"])
    elif past.outcome == "rolled back":
        assert (champion, logged) == ("immr-1", ["roll back"])
    else:
        assert (past.outcome, champion, logged) == ("stopped", "immr-1", [])


COMMANDS: dict[str, Callable[[Settings], object]] = {
    "stop": lambda settings: stop(connect(settings)),
    "start": lambda settings: start(connect(settings)),
    "serve": lambda settings: complete_interrupted(connect(settings)),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("number", range(5))
def test_a_killed_promotion_is_complete_after_the_next_command(
    deployed: Settings, command: str, number: int
) -> None:
    """If its test was stopped next, the registry's champion stayed the new version."""
    shop(deployed, start(connect(deployed)), {"champion": 4, "challenger": 12}, users=800)
    assert kill_at_change(deployed, number)
    COMMANDS[command](deployed)
    check_agreement(deployed)


@pytest.mark.parametrize("number", range(3))
def test_a_killed_rollback_of_a_decision_is_complete_after_a_stop(deployed: Settings, number: int) -> None:
    shop(deployed, start(connect(deployed)), {"champion": 8, "challenger": 2}, users=400)
    assert kill_at_change(deployed, number)
    stop(connect(deployed))
    check_agreement(deployed)


def test_a_deployment_never_replaces_the_version_of_a_killed_promotion(deployed: Settings) -> None:
    shop(deployed, start(connect(deployed)), {"champion": 4, "challenger": 12}, users=800)
    assert kill_at_change(deployed, 1)
    version = version_of(connect(deployed).registry, deployed.home / "trained", "key-3")
    deploy(packaged_parts(deployed, version.id), version, tag_of(version.id))
    assert deployments(deployed) == {"champion": "immr-2", "challenger": "immr-3"}
    assert roles(deployed) == ("immr-2", "immr-3")
