"""A/A: deploy a copy of the champion as challenger, to check assignment, event log and readout themselves."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from immr import __version__
from immr.errors import ExperimentError
from immr.experiment.definition import CHAMPION
from immr.storage import fingerprint

if TYPE_CHECKING:
    from immr.loop.experiment.queue import Deployed, Waiting
    from immr.types import ModelVersion
    from immr.wiring import Parts

log = logging.getLogger(__name__)

COPY_OF = "copy.of"
"""Tag of a version that was made for an A/A test: the version that it copies. A copy without it is incomplete."""


def deploy_copy(parts: Parts, share: float = 0.5) -> Deployed | Waiting:
    """Register the champion's files as another version, and package, index and deploy it.

    A variant is identified by its version, so a version cannot be tested against itself. A copy is packaged,
    indexed and deployed like any version, so the test covers these steps too. It is made once and then reused;
    after a failure, the next call completes it.

    Args:
        parts: The process's adapters.
        share: Share of the users, if it has to wait in the queue.

    Raises:
        CapacityError: The copy's collection needs more memory or disk than is free.
        ContractError: The champion's training set is not in this home.
        DeployError: The copy cannot start.
        ExperimentError: There is no champion.
    """
    from immr import recipes
    from immr.loop.experiment.queue import deploy_or_wait
    from immr.loop.govern import training_set_of
    from immr.loop.index import index
    from immr.loop.package import package

    champion = parts.registry.role(CHAMPION)
    if champion is None:
        raise ExperimentError("there is no champion to copy: deploy a version with `immr deploy` first")
    items = training_set_of(parts, champion).items
    copy = _copy(parts, champion)
    bento = package(parts, copy, recipes.of_version(parts.registry, copy)).bento
    index(parts, copy, items)
    return deploy_or_wait(parts, copy, bento, share)


def _copy(parts: Parts, version: ModelVersion) -> ModelVersion:
    from immr.loop.rank import register_copy

    registry = parts.registry
    key = fingerprint.of_values("copy", __version__, version.key)
    existing = registry.find(key)
    if existing and COPY_OF in registry.tags(existing):
        log.info("reusing %s, a copy of %s", existing.id, version.id)
        registry.runs.finish_of_reused(existing.run_id)
        return existing
    run_id = registry.runs.start(f"copy-{key[:8]}", {"version": version.id}, {COPY_OF: version.id}, key=key)
    try:
        folder = registry.fetch(version, parts.settings.cache_dir)
        about = f"A copy of {version.id} for an A/A test: no difference is expected."
        copy = register_copy(parts, version, folder, key, run_id, about)
        registry.tag(copy, COPY_OF, version.id)  # last, because the copy is reused once it has this tag
    except BaseException:
        registry.runs.finish(run_id, failed=True)
        raise
    registry.runs.finish(run_id)
    return copy
