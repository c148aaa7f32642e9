"""Deploy: start serving a packaged and indexed version, without disturbing a running test."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from immr.errors import DeployError, ExperimentRunningError, IndexUnavailableError
from immr.loop.evaluate import GATE_PASSED
from immr.loop.experiment.recovery import completed
from immr.loop.experiment.running_test import running_test
from immr.machine.wording import listed
from immr.packaging import bento as bentos
from immr.packaging import upload
from immr.settings import query_of
from immr.types import CHALLENGER_ROLES

if TYPE_CHECKING:
    from immr.deploy.deployer import Deployment
    from immr.types import ModelVersion, Role
    from immr.wiring import Parts

log = logging.getLogger(__name__)


def deploy(parts: Parts, version: ModelVersion, bento: str, force: bool = False) -> Deployment:
    """Deploy a version as champion if there is none, otherwise as challenger.

    If there are `IMMR_CHALLENGERS` of them already, it replaces the oldest. While a test is running, only its own
    versions can be deployed again, each in its current role.

    Args:
        parts: The process's adapters.
        version: What to deploy.
        bento: The tag of its Bento, such as "immr-search:immr-3".
        force: Deploy it even if its gate failed, or its Bento or collection is missing; the log says so.

    Raises:
        ExperimentRunningError: A test of other versions is running, and this version would replace one of them.
        DeployError: The gate stopped the version, its Bento or collection is missing, or the cluster refuses it.
        ExperimentError: Another process is changing the experiment.
    """
    with completed(parts):
        return deploy_locked(parts, version, bento, force)


def deploy_locked(parts: Parts, version: ModelVersion, bento: str, force: bool = False) -> Deployment:
    """`deploy` for callers that hold the experiment's lock."""
    role = _role_for(parts, version)
    problems = unfit(parts, version, bento)
    _refuse_unfit(version, problems, force)
    _refuse_to_disturb(parts, version, role)
    if problems:
        log.warning("%s is deployed with --force, although %s", version.id, "; ".join(problems))
    deployment = parts.deployer.apply(version, bento, role)
    parts.registry.set_role(role, version, f"Deployed as {role}.")
    return deployment


def _role_for(parts: Parts, version: ModelVersion) -> Role:
    roles = parts.registry.roles()
    if "champion" not in roles:
        return "champion"
    places = CHALLENGER_ROLES[: parts.settings.challengers]
    held = [role for role, holder in roles.items() if holder.id == version.id]
    free = [role for role in places if role not in roles]
    return next(iter(held + free), "") or min(places, key=lambda role: roles[role].number)


def _refuse_unfit(version: ModelVersion, problems: Sequence[str], force: bool) -> None:
    """Refuse a version that the gate stopped, or that lacks a part it needs to answer."""
    if problems and not force:
        found = "; ".join(problems)
        raise DeployError(f"{version.id} is not deployed: {found}. To deploy it anyway, use --force")


def unfit(parts: Parts, version: ModelVersion, bento: str) -> list[str]:
    """Why a version should not serve: its gate failed, or it lacks a part it needs to answer."""
    problems = []
    tags = parts.registry.tags(version)
    if tags.get(GATE_PASSED) == "no":
        problems.append(f"the gate stopped it ({tags.get('gate', '').rstrip('.')})")
    store = query_of(parts.settings.deploy_url).get("storage", "")
    if store and (missing := upload.missing(bento, store)):
        problems.append(f"{missing} (run `immr package --model {version.id}`)")
    if not store and not bentos.is_built(parts.settings.bento_home, bento):
        problems.append(f"there is no Bento {bento} (run `immr package --model {version.id}`)")
    try:
        content = parts.index.content(version.id)
        if content is None:
            problems.append(
                f"it has no finished collection (run `immr index build TRAINING_SET --model {version.id}`)"
            )
        elif not content.is_of(version):
            problems.append(
                f"{content.name} at IMMR_INDEX_URL belongs to another registry's {version.id} (use an index, or an "
                "IMMR_MODEL_NAME, of your own)"
            )
    except IndexUnavailableError as error:
        problems.append(f"its collection cannot be checked ({error})")
    return problems


def _refuse_to_disturb(parts: Parts, version: ModelVersion, role: Role) -> None:
    running = running_test(parts)
    if running is None:
        return
    owners = [variant for variant in running.variants if not variant.ended]
    if any((owner.name, owner.model_version) == (role, version.id) for owner in owners):
        return
    champion, challengers = running.champion.model_version, [each.model_version for each in running.remaining]
    raise ExperimentRunningError(
        f"test {running.name} is comparing {champion} with {listed(challengers)}, and {version.id} would replace or "
        "join them: its turn comes when that test has ended (`immr experiment decide --apply`, or "
        "`immr experiment stop`)"
    )
