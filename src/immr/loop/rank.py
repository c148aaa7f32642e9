"""Rank: learn a ranker from a click log, compare it with the hand-tuned weights, and register it as a version."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from immr import __version__
from immr.data.content_hashes import content_hash
from immr.data.contract import IMPRESSIONS, QUERIES
from immr.data.sources.shop import Shop
from immr.errors import RankingError
from immr.evaluation.matches.rule import MATCH_RULE
from immr.loop.evaluate import GATE_PASSED
from immr.machine import cores
from immr.model.preprocessing import READING
from immr.ranking.propensity import PLACES
from immr.storage import fingerprint
from immr.storage.atomic import replace_folder_atomically

if TYPE_CHECKING:
    from immr.data.training_set import TrainingSet
    from immr.ranking.click_log import ClickLog
    from immr.ranking.learning import LearnedRanker
    from immr.recipes import Recipe
    from immr.types import Item, ModelVersion
    from immr.wiring import Parts

log = logging.getLogger(__name__)

RANKER_OF = "ranker.of"
"""Tag of a version with a ranker: the version whose towers it shares. A version without its own is incomplete."""
RANKER = "ranker"
"""Tag of a version with a ranker: how it compares with the hand-tuned weights."""


@dataclass(frozen=True)
class Ranked:
    """The outcome of ranking a version.

    Attributes:
        version: the version with the ranker if it passes its gate, else the version as it was.
        sentence: the comparison with the hand-tuned weights.
        numbers: of the comparison and the position bias.
    """

    version: ModelVersion
    passed: bool
    sentence: str
    numbers: dict[str, float]


def rank(
    parts: Parts,
    version: ModelVersion,
    training_set: TrainingSet,
    recipe: Recipe,
    data: Shop | str | Path | None = None,
) -> Ranked:
    """Learn a ranker for a version's towers, and register both as a new version if it beats the hand-tuned weights.

    Args:
        parts: The process's adapters.
        version: Its towers compute the similarities.
        training_set: Its items are the catalogue.
        recipe: Its hand-tuned weights and its settings for the ranker are used.
        data: The click log; by default the event log, where photos were kept.

    Raises:
        RankingError: Position bias cannot be separated from relevance, or the log has too few clicks.
        EventLogError: There is no `data`, and the event log has no query with a photo.
        ContractError: The click log violates the data contract.
    """
    with TemporaryDirectory(prefix="immr-rank-") as scratch:
        shop = Shop.of(data if data is not None else _exported(parts, training_set, Path(scratch)))
        key = fingerprint.of_values(
            "rank",
            __version__,
            READING,
            version.key,
            training_set.hash,
            content_hash(shop),
            recipe.ranking,
            recipe.ranker,
        )
        existing = parts.registry.find(key)
        tags = parts.registry.tags(existing) if existing else {}
        if existing and tags.get(RANKER_OF) == version.id:
            log.info("rank: reusing %s, made from the same version, click log and recipe", existing.id)
            parts.registry.runs.finish_of_reused(existing.run_id)
            return Ranked(existing, True, tags.get(RANKER, ""), {})
        run_id = parts.registry.runs.start(
            f"rank-{key[:8]}",
            params={
                "version": version.id,
                "ranking": asdict(recipe.ranking),
                "ranker": asdict(recipe.ranker),
            },
            tags={RANKER_OF: version.id, "recipe": recipe.name},
            key=key,
        )
        try:
            learned = _learn(parts, version, training_set, recipe, shop, Path(scratch))
            numbers = _numbers(learned)
            parts.registry.runs.log_metrics(run_id, numbers)
            ranked = _register(parts, version, learned, key, run_id) if learned.passed else version
        except BaseException:
            parts.registry.runs.finish(run_id, failed=True)
            raise
    parts.registry.runs.finish(run_id)
    return Ranked(ranked, learned.passed, learned.sentence, numbers)


def rank_if_possible(version: ModelVersion, attempt: Callable[[], Ranked]) -> Ranked:
    """The outcome of an attempt to `rank` a version, or the version unchanged if its log cannot teach a ranker."""
    try:
        return attempt()
    except RankingError as error:
        log.warning("rank: %s", error)
        return Ranked(version, False, f"No ranker: {error}.", {})


def _exported(parts: Parts, training_set: TrainingSet, scratch: Path) -> Path:
    """The event log as a shop's folder."""
    from immr.loop.watch import export_events

    folder = export_events(parts, scratch / "events").folder
    shutil.copyfile(training_set.folder / "items.parquet", folder / "items.parquet")
    return folder


def _learn(
    parts: Parts,
    version: ModelVersion,
    training_set: TrainingSet,
    recipe: Recipe,
    shop: Shop,
    scratch: Path,
) -> LearnedRanker:
    from immr.data.pictures.remote.downloads import Downloads
    from immr.model.documents import encode_pictures
    from immr.model.query_encoder import OnnxQueryEncoder
    from immr.ranking.examples import examples
    from immr.ranking.first_stage import first_stage
    from immr.ranking.learning import learn
    from immr.ranking.photo_embeddings import with_photos
    from immr.ranking.user_histories import histories

    items = training_set.items
    clicks = _click_log(shop, items, recipe.ranker.max_queries, scratch)
    folder = parts.registry.fetch(version, parts.settings.cache_dir)
    encoder = OnnxQueryEncoder(folder, at_once=cores.usable())
    clicks, queries_QD = with_photos(
        clicks, encoder, Downloads(parts.settings.pictures_dir, shop.mapping.pictures)
    )
    hashes = training_set.image_hashes()
    embedded = encode_pictures(folder, items, parts.settings.cache_dir, hashes=hashes)
    first = first_stage(queries_QD, embedded, clicks.query_R, clicks.item_R)
    made = examples(clicks, items, first, recipe.ranking)
    earlier = histories(clicks, items, made.attributes) if recipe.ranker.personal else None
    return learn(made, recipe.ranking, recipe.ranker, earlier)


def _click_log(shop: Shop, items: Sequence[Item], max_queries: int, scratch: Path) -> ClickLog:
    """The valid rows of the click log."""
    from immr.data.validation.tables import admit_table
    from immr.ranking import click_log

    for contract in (IMPRESSIONS, QUERIES):
        table = shop.table(contract)
        assert table is not None, "neither is optional"
        admit_table(table, scratch)
    return click_log.read(scratch / "impressions.parquet", scratch / "queries.parquet", items, max_queries)


def personal_in_use(parts: Parts) -> list[str]:
    """Versions with a role, deployed, waiting or in the experiment whose rankers read features of users."""
    from immr.loop.experiment.running_test import live_versions
    from immr.search.ranker import Ranker

    registry, found = parts.registry, []
    live = live_versions(parts)
    for version in registry.versions():
        if version.id in live and RANKER in registry.tags(version):
            ranker = Ranker.read(registry.fetch(version, parts.settings.cache_dir))
            found += [version.id] if ranker and ranker.personal else []
    return found


def _register(
    parts: Parts, version: ModelVersion, learned: LearnedRanker, key: str, run_id: str
) -> ModelVersion:
    """The version's files with the ranker, as a new version."""
    folder = parts.settings.work_dir / "rankers" / key[:16]
    with replace_folder_atomically(folder) as aside:
        shutil.copytree(parts.registry.fetch(version, parts.settings.cache_dir), aside, dirs_exist_ok=True)
        learned.ranker.write(aside)
    about = f"The towers of {version.id} with a learned ranker. {learned.sentence}"
    ranked = register_copy(parts, version, folder, key, run_id, about)
    parts.registry.tag(ranked, RANKER, learned.sentence)
    # last, because the version is reused once it has this tag
    parts.registry.tag(ranked, RANKER_OF, version.id)
    shutil.rmtree(folder)
    return ranked


def register_copy(
    parts: Parts, version: ModelVersion, folder: Path, key: str, run_id: str, about: str
) -> ModelVersion:
    """Register a folder with the version's towers as a new version; its match rule and verdicts hold for both.

    Args:
        parts: The process's adapters.
        version: The original.
        folder: The copy's files.
        key: Of the copy.
        run_id: The MLflow run that made it.
        about: A sentence for its description in MLflow.
    """
    from immr.recipes import KEPT
    from immr.registry.logged_models import Origin

    registry = parts.registry
    copy = registry.register(
        folder,
        key,
        run_id,
        dim=version.dim,
        preprocessing_hash=version.preprocessing_hash,
        manifest_hash=version.manifest_hash,
        recipe=version.recipe,
        origin=Origin(about=about),
    )
    tags = registry.tags(version)
    for name in ("gate", GATE_PASSED, RANKER_OF, RANKER):
        if name in tags:
            registry.tag(copy, name, tags[name])
    for name in (MATCH_RULE, KEPT):  # of the towers, so they hold for both
        with registry.attached(version, name) as file:
            if file is not None:
                registry.attach(copy, file)
    return copy


def _numbers(learned: LearnedRanker) -> dict[str, float]:
    """Metrics for MLflow: the comparison, and how often positions are examined, relative to one of the first."""
    relative = learned.propensities.relative_K
    examined = {
        f"examined.{position}": float(value)
        for position, value in zip(PLACES, relative, strict=True)
        if np.isfinite(value)
    }
    return {
        "trees": float(len(learned.ranker.trees.trees)),
        "bias_differences": float(len(learned.bias_differences)),
        **learned.verdict.numbers,
        **(learned.personal.numbers if learned.personal else {}),
        **examined,
    }
