"""Package: build a Bento from a model version."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    from immr.recipes import Recipe
    from immr.types import ModelVersion
    from immr.wiring import Parts

log = logging.getLogger(__name__)


def package(parts: Parts, version: ModelVersion, recipe: Recipe) -> str:
    """Build the version's Bento: the query encoder in ONNX, without torch. Returns its tag.

    A ranker needs the hand weights it was trained on, so these replace the recipe's. If IMMR_DEPLOY_URL
    names an object store as `storage`, the Bento is copied there.

    Raises:
        PackagingError: A file of the version is missing, BentoML fails, or the object store refuses the copy.
        RankingError: The version's ranker cannot be read.
        SettingsError: The application folder with `serving/` is not found.
    """
    from immr.evaluation.matches.rule import MATCH_RULE
    from immr.packaging import bento
    from immr.packaging.application import application_folder
    from immr.packaging.upload import STORES, upload
    from immr.search.ranker import Ranker

    registry = parts.registry
    folder = registry.fetch(version, parts.settings.cache_dir)
    ranker = Ranker.read(folder)
    with registry.attached(version, MATCH_RULE) as match_rule:
        if match_rule is None:
            log.info("%s has no rule for matches: its answers do not say whether a hit is exact", version.id)
        tag = bento.build(
            version,
            folder,
            ranking=ranker.ranking if ranker else recipe.ranking,
            service_folder=application_folder() / "serving",
            bento_home=parts.settings.bento_home,
            match_rule=match_rule,
        )
    store = dict(parse_qsl(urlsplit(parts.settings.deploy_url).query)).get("storage", "")
    if store.startswith(STORES):
        upload(parts.settings.bento_home, tag, store)
    return tag
