"""Deploy: start serving a packaged and indexed version, without disturbing a running test."""

from __future__ import annotations

from typing import TYPE_CHECKING

from immr.errors import ExperimentRunningError
from immr.loop.experiment import exclusive, running_test

if TYPE_CHECKING:
    from immr.deploy.deployer import Deployment
    from immr.types import ModelVersion, Role
    from immr.wiring import Parts


def deploy(parts: Parts, version: ModelVersion, bento: str) -> Deployment:
    """Deploy a version as champion if there is none, otherwise as challenger.

    While a test is running, only its own versions can be deployed again, each in its current role.

    Args:
        parts: The process's adapters.
        version: What to deploy.
        bento: The tag of its Bento, such as "immr-search:immr-3".

    Raises:
        ExperimentRunningError: A test of other versions is running, and this version would replace one of them.
        DeployError: The Bento does not exist, or the cluster refuses it.
        ExperimentError: Another process is changing the experiment.
    """
    with exclusive(parts):
        role = _role_for(parts, version)
        _refuse_to_disturb(parts, version, role)
        deployment = parts.deployer.apply(version, bento, role)
        parts.registry.set_role(role, version)
        return deployment


def _role_for(parts: Parts, version: ModelVersion) -> Role:
    champion = parts.registry.role("champion")
    return "champion" if champion is None or champion.id == version.id else "challenger"


def _refuse_to_disturb(parts: Parts, version: ModelVersion, role: Role) -> None:
    running = running_test(parts)
    if running is None:
        return
    owned = {variant.model_version for variant in running.variants}
    owner = next((variant for variant in running.variants if variant.name == role), None)
    if owner is not None and owner.model_version == version.id:
        return
    raise ExperimentRunningError(
        f"test {running.name} is comparing {' with '.join(sorted(owned))}, and {version.id} would replace "
        f"its {role}: deploy it after the test has ended (`immr experiment decide`, or `immr experiment stop`)"
    )
