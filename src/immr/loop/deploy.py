"""Deploy: a packaged and indexed version serves, without disturbing a running test."""

from __future__ import annotations

from typing import TYPE_CHECKING

from immr.errors import ExperimentRunningError
from immr.loop.experiment import exclusive, running_test

if TYPE_CHECKING:
    from immr.deploy.deployer import Deployment
    from immr.types import ModelVersion, Role
    from immr.wiring import Parts


def deploy(parts: Parts, version: ModelVersion, bento: str) -> Deployment:
    """Bring a version up: as champion if there is none, otherwise as challenger.

    A running test owns its versions. While one runs, only its own versions can be deployed again, in the role
    that they have.

    Args:
        parts: The process's adapters.
        version: What to deploy.
        bento: The tag of its Bento, such as "immr-search:immr-3".

    Raises:
        ExperimentRunningError: A test of other versions runs, and this version would take the place of one of them.
        DeployError: The Bento is not there, or the cluster refuses it.
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
        f"its {role}: deploy again when the test has ended (`immr experiment decide`, or `immr experiment stop`)"
    )
