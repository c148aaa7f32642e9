"""Following up: the registry is down when a verdict is carried out, and follows later."""

from __future__ import annotations

import pytest

from immr.errors import ExperimentError, RegistryError
from immr.experiment.file import load
from immr.loop.experiment.decide import decide
from immr.loop.experiment.history import history
from immr.loop.experiment.ramp import stop
from immr.loop.experiment.recovery import complete_interrupted
from immr.loop.experiment.rollback import roll_back
from immr.loop.experiment.start import start
from immr.settings import Settings
from immr.wiring import Parts, connect
from tests.loop.experiment.test_decide import RegistryDown
from tests.loop.experiment.test_recovery import check_agreement
from tests.support.two_versions import deployments, roles, shop


def test_a_promotion_gives_users_the_winner_while_the_registry_is_down(deployed: Settings) -> None:
    shop(deployed, start(connect(deployed)), {"champion": 4, "challenger": 12}, users=800)
    away = Parts.of(deployed, registry=RegistryDown(connect(deployed).registry))
    with pytest.raises(RegistryError):
        decide(away, apply=True)
    assert load(deployed.experiment_file).champion.model_version == "immr-2"
    with pytest.raises(RegistryError):
        start(away)
    assert stop(away).champion.model_version == "immr-2"  # works, and the promotion is completed later
    assert roles(deployed)[0] == "immr-1"
    complete_interrupted(connect(deployed))
    check_agreement(deployed)


def test_a_rollback_right_after_a_killed_promotion_is_in_the_log_after_it(deployed: Settings) -> None:
    shop(deployed, start(connect(deployed)), {"champion": 4, "challenger": 12}, users=800)
    down = RegistryDown(connect(deployed).registry)
    with pytest.raises(RegistryError):
        decide(Parts.of(deployed, registry=down), apply=True)
    with pytest.raises(ExperimentError, match="all users get immr-1 again, but registry"):
        roll_back(Parts.of(deployed, registry=down))
    complete_interrupted(connect(deployed))
    assert [each["action"] for each in connect(deployed).registry.decisions()] == ["promote", "roll back"]
    assert (roles(deployed), deployments(deployed)) == (("immr-1", None), {"champion": "immr-1"})
    assert history(connect(deployed))[0].outcome == "promoted, undone later"
