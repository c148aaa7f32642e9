"""Evaluate: search with photos whose item is known, and apply the gate, which compares with the champion."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from immr.data.training_set import LabelledPhoto, TrainingSet
from immr.errors import DataError
from immr.model.model_card import Card
from immr.registry.reports import Report, publish
from immr.storage import atomic, fingerprint

if TYPE_CHECKING:
    from immr.evaluation.gate import GateVerdict
    from immr.evaluation.matches.rule import MatchRule
    from immr.evaluation.queries.kinds import KindResult
    from immr.evaluation.report import Background
    from immr.evaluation.result import Evaluation
    from immr.model.documents import PictureEmbeddings
    from immr.recipes import Recipe
    from immr.types import FloatArray, Item, ModelVersion
    from immr.wiring import Parts

GATE_PASSED = "gate.passed"
"""Tag of a version with the gate's verdict: yes or no. A version that was never evaluated has none."""


@dataclass(frozen=True)
class Evaluated:
    """A version's evaluation, the gate's verdict, and the champion it was compared with."""

    evaluation: Evaluation
    verdict: GateVerdict
    champion: ModelVersion | None
    kinds: Mapping[str, KindResult]


def evaluate(
    parts: Parts,
    version: ModelVersion,
    training_set: TrainingSet,
    recipe: Recipe,
    report: Path,
    kinds: Sequence[str] = (),
) -> Evaluated:
    """Evaluate a version and the champion on the held-out photos, apply the gate, and write the report.

    The champion itself is compared with the gate's floor. The registry keeps its earlier verdict, if it has one.

    Args:
        parts: The process's adapters.
        version: The candidate.
        training_set: Where the held-out photos are.
        recipe: Holds the gate's settings.
        report: The HTML file to write.
        kinds: Kinds of query to evaluate as well, see `immr.evaluation.queries.kinds`.

    Raises:
        DataError: The training set holds no photo with a known item.
        RecipeError: A slice that the gate's settings name does not exist.
        OSError: The report cannot be written there.
    """
    from immr.evaluation import slices
    from immr.evaluation.gate import gate
    from immr.evaluation.report import write_report

    slices.check_names(recipe.gate.slice_margins, training_set)
    atomic.check_writable(report)
    registry = parts.registry
    evaluation = evaluation_of(parts, version, training_set, recipe)
    role_holder = registry.role("champion")
    is_champion = role_holder is not None and role_holder.id == version.id
    champion = None if is_champion else role_holder
    before = evaluation_of(parts, champion, training_set, recipe) if champion else None
    verdict = gate(evaluation, before, recipe.gate, is_champion)
    by_kind = _by_kind(parts, version, kinds, _held_out(training_set), recipe) if kinds else {}
    write_report(
        evaluation,
        training_set.items,
        report,
        name=f"{version.id} ({recipe.name})",
        verdict=verdict,
        comparisons={champion.id: before} if champion and before else None,
        background=replace(_background(parts, version, training_set, recipe), kinds=by_kind),
    )
    registry.log_evaluation(version, _logged_metrics(evaluation, verdict) | _kind_metrics(by_kind))
    registry.runs.log_report(version.run_id, report, "evaluation.html")
    registry.runs.log_report(version.run_id, training_set.folder / "report.html", "governance.html")
    if (rule_file := _rule_file(parts, version, training_set, recipe)).is_file():
        registry.attach(version, rule_file)
    if not is_champion:  # it serves by the verdict that promoted it, or was started without one
        registry.tag(version, "gate", verdict.sentence)
        registry.tag(version, GATE_PASSED, "yes" if verdict.passed else "no")
    about = Report("evaluation", f"Evaluation of {version.id}", recipe.name, verdict.sentence, version.id)
    publish(parts.settings.home, report, about)
    return Evaluated(evaluation, verdict, champion, by_kind)


def evaluate_dataset(
    parts: Parts,
    version: ModelVersion,
    dataset: str,
    split: str,
    recipe: Recipe,
    kinds: Sequence[str] = (),
) -> tuple[Evaluation, Mapping[str, KindResult]]:
    """Evaluate a version on a split of a named data set, against all of its items, also by kind of query.

    Raises:
        DatasetError: There is no such data set or split; the message lists the known ones.
    """
    from immr.datasets.named import load_dataset

    labelled = load_dataset(dataset, parts.settings.data_mirror, parts.settings.cache_dir)
    class_of = {item.item_id: number for number, item in enumerate(labelled.items)}
    photos = [
        LabelledPhoto(f"{split}-{number}", photo.image, class_of[photo.item_id], photo.item_id)
        for number, photo in enumerate(labelled.split(split))
    ]
    searches = _Searches(photos, labelled.items, list(class_of.values()))
    evaluation = _judged(_embedded(parts, version, searches), searches, recipe)
    return evaluation, _by_kind(parts, version, kinds, searches, recipe) if kinds else {}


def evaluation_of(
    parts: Parts, version: ModelVersion, training_set: TrainingSet, recipe: Recipe
) -> Evaluation:
    """A version's evaluation on the held-out photos, computed once and cached, with its rule for matches."""
    from immr.evaluation.result import Evaluation

    file = _evaluation_file(parts, version, training_set, recipe)
    if file.is_file():
        return Evaluation.read(file)
    searches = _held_out(training_set)
    embedded = _embedded(parts, version, searches)
    evaluation = _judged(embedded, searches, recipe)
    if (rule := _match_rule(parts, version, training_set, embedded, recipe)) is not None:
        rule.write(_rule_file(parts, version, training_set, recipe))
    evaluation.write(file)
    return evaluation


def embed_photos(folder: Path, uris: Sequence[str]) -> FloatArray:
    """Embed photos exactly as the Bento does, with the version's ONNX query encoder.

    Returns:
        (N, D) float32, unit rows, in the order of `uris`.
    """
    from immr.evaluation.matches.photos import embed_with_textures

    return embed_with_textures(folder, uris)[0]


def _background(parts: Parts, version: ModelVersion, training_set: TrainingSet, recipe: Recipe) -> Background:
    """Further content of the report: training curves, data, earlier versions."""
    from immr.evaluation.report import Background
    from immr.evaluation.result import Evaluation

    registry = parts.registry
    curves = registry.fetch(version, parts.settings.cache_dir) / "curves.json"
    others = {
        f"{other.id} ({other.recipe})": _evaluation_file(parts, other, training_set, recipe)
        for other in registry.versions()
        if other.id != version.id
    }
    return Background(
        curves=json.loads(curves.read_text()) if curves.is_file() else {},
        manifest=training_set.manifest,
        others={name: Evaluation.read(path) for name, path in others.items() if path.is_file()},
    )


def _logged_metrics(evaluation: Evaluation, verdict: GateVerdict) -> dict[str, float]:
    """The finite metrics, by names that MLflow accepts."""
    metrics = evaluation.means()
    metrics |= {f"macro.{name}": interval.mean for name, interval in evaluation.macro.items()}
    metrics |= {
        f"slice.{name}.{metric}": part.intervals[metric].mean
        for name, part in evaluation.slices.items()
        for metric in ("recall@1", "map@10")
    }
    metrics |= {
        "calibration_error": evaluation.calibration.error,
        "score_order": evaluation.calibration.order,
        "gate.passed": float(verdict.passed),
    }
    metrics |= {f"gate.{name}": value for name, value in verdict.numbers.items()}
    return {
        re.sub(r"[^\w\-. @]", "_", name): value for name, value in metrics.items() if math.isfinite(value)
    }


@dataclass(frozen=True)
class _Searches:
    """Photos whose item is known, and the items among which it is searched."""

    photos: Sequence[LabelledPhoto]
    items: Sequence[Item]
    item_classes: Sequence[int]
    picture_hashes: Mapping[str, str] | None = None  # by URI, if they are known
    training_counts: Mapping[int, int] | None = None  # training photos by class


def _held_out(training_set: TrainingSet) -> _Searches:
    return _Searches(
        training_set.judgements,
        training_set.items,
        training_set.item_classes,
        training_set.image_hashes(),
        Counter(photo.class_id for photo in training_set.queries),
    )


@dataclass(frozen=True)
class _Embedded:
    """Photos as a version embeds them (Q, D), their textures (Q, T), and the items' pictures."""

    photos_QD: FloatArray
    textures_QT: FloatArray | None
    items: PictureEmbeddings


def _embedded(parts: Parts, version: ModelVersion, searches: _Searches) -> _Embedded:
    from immr.evaluation.matches.photos import embed_with_textures
    from immr.model.documents import encode_pictures

    if not searches.photos:
        raise DataError(
            "there are no held-out photos to evaluate on: name a training set that has some (--training-set), or add "
            "a table `judgements` to the data, or clicks of more than one user, and govern again"
        )
    folder = parts.registry.fetch(version, parts.settings.cache_dir)
    photos_QD, textures_QT = embed_with_textures(folder, [photo.image for photo in searches.photos])
    items = encode_pictures(folder, searches.items, parts.settings.cache_dir, hashes=searches.picture_hashes)
    return _Embedded(photos_QD, textures_QT, items)


def _judged(embedded: _Embedded, searches: _Searches, recipe: Recipe) -> Evaluation:
    from immr.evaluation.evaluate import evaluate as judge

    return judge(
        embedded.photos_QD,
        searches.photos,
        embedded.items.rows_PD,
        searches.items,
        searches.item_classes,
        recipe.gate,
        pictures_N=embedded.items.pictures_N,
        training_counts=searches.training_counts,
    )


def _match_rule(
    parts: Parts, version: ModelVersion, training_set: TrainingSet, embedded: _Embedded, recipe: Recipe
) -> MatchRule | None:
    from immr.evaluation.matches.calibrate import LabelledEmbeddings, calibrate
    from immr.evaluation.matches.photos import LabelledPictures, fitted

    queries, items, classes = training_set.queries, training_set.items, training_set.item_classes
    if len(queries) < recipe.match.min_photos:
        return None
    folder = parts.registry.fetch(version, parts.settings.cache_dir)
    held_out = np.array([photo.class_id for photo in training_set.judgements], dtype=np.int64)
    photos = LabelledPictures([query.image for query in queries], [query.class_id for query in queries])
    return calibrate(
        LabelledEmbeddings(embedded.photos_QD, held_out, embedded.textures_QT),
        LabelledEmbeddings(embedded.items.rows_PD, np.repeat(classes, embedded.items.pictures_N)),
        fitted(folder, photos, LabelledPictures([item.image for item in items], classes)),
        recipe.match,
        begin=Card.read(folder).model.plain_begin,
    )


def _by_kind(
    parts: Parts, version: ModelVersion, kinds: Sequence[str], searches: _Searches, recipe: Recipe
) -> Mapping[str, KindResult]:
    from immr.model.documents import encode_pictures
    from immr.search.evaluate_by_kind import evaluate_by_kind, searcher_of

    folder, items = parts.registry.fetch(version, parts.settings.cache_dir), searches.items
    documents = encode_pictures(folder, items, parts.settings.cache_dir, hashes=searches.picture_hashes)
    with searcher_of(version, folder, items, documents, recipe.ranking) as searcher:
        return evaluate_by_kind(searcher, kinds, searches.photos, items, searches.item_classes, recipe.gate)


def _kind_metrics(kinds: Mapping[str, KindResult]) -> dict[str, float]:
    """Keyed by names that MLflow accepts."""
    return {
        f"kind.{kind.replace('+', '_')}.{name}": estimate.mean
        for kind, result in kinds.items()
        for name, estimate in result.intervals.items()
    }


def _rule_file(parts: Parts, version: ModelVersion, training_set: TrainingSet, recipe: Recipe) -> Path:
    from immr.evaluation.matches.rule import MATCH_RULE

    return _evaluation_file(parts, version, training_set, recipe).with_suffix("") / MATCH_RULE


def _evaluation_file(parts: Parts, version: ModelVersion, training_set: TrainingSet, recipe: Recipe) -> Path:
    from immr.evaluation.result import FORMAT

    intervals = (recipe.gate.confidence, recipe.gate.bootstrap_rounds, recipe.gate.seed)
    pictures = [item.images for item in training_set.items if item.images]  # not part of the set's hash
    inputs = (FORMAT, version.key, training_set.hash, *intervals, recipe.match, *pictures)
    key = fingerprint.of_values(*inputs)[:16]
    return parts.settings.work_dir / "evaluations" / f"{version.id}-{key}.json"
