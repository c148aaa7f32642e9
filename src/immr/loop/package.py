"""Package: build a Bento from a model version."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from immr.recipes import Recipe
    from immr.types import ModelVersion
    from immr.wiring import Parts

log = logging.getLogger(__name__)


def package(parts: Parts, version: ModelVersion, recipe: Recipe) -> str:
    """Build the version's Bento: the query encoder in ONNX, without torch. Returns its tag.

    Raises:
        PackagingError: A file of the version is missing, or BentoML fails.
        SettingsError: The application folder with `serving/` is not found.
    """
    from immr.evaluation.matches.rule import MATCH_RULE
    from immr.packaging import bento
    from immr.packaging.application import application_folder

    registry = parts.registry
    with registry.attached(version, MATCH_RULE) as match_rule:
        if match_rule is None:
            log.info("%s has no rule for matches: its answers do not say whether a hit is exact", version.id)
        return bento.build(
            version,
            registry.fetch(version, parts.settings.cache_dir),
            ranking=recipe.ranking,
            service_folder=application_folder() / "serving",
            bento_home=parts.settings.bento_home,
            match_rule=match_rule,
        )
