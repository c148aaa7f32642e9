"""Which operators are needed, depending on the settings."""

from __future__ import annotations

import pytest

from immr.doctor.operators import OPERATORS, as_used
from immr.settings import Settings


@pytest.mark.parametrize(
    ("deploy_url", "training", "expected"),
    [
        ("kserve://immr", "PyTorchJob", set()),
        ("kserve://immr?in_flight_target=0", "PyTorchJob", set()),
        ("kserve://immr?in_flight_target=8", "PyTorchJob", {"keda.sh", "external.metrics.k8s.io"}),
        ("kserve://immr", "TrainJob (also there: PyTorchJob)", {"jobset.x-k8s.io"}),
    ],
)
def test_settings_and_training_decide_what_is_needed(
    deploy_url: str, training: str, expected: set[str]
) -> None:
    always = {one.group for one in OPERATORS if one.needed}
    settings = Settings(deploy_url=deploy_url)
    needed = {one.group for one in OPERATORS if as_used(one, settings, training).needed}
    assert needed - always == expected
