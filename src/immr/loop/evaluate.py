"""A registered version judged on photos whose answer is known, as it would serve them."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from immr import wiring
from immr.data.training_set import LabelledPhoto, TrainingSet
from immr.errors import DataError
from immr.recipes import Recipe
from immr.settings import Settings
from immr.storage import fingerprint
from immr.types import FloatArray, Item, ModelVersion

if TYPE_CHECKING:
    from immr.evaluation.evaluate import Evaluation
    from immr.evaluation.gate import GateVerdict
    from immr.evaluation.report import Background


def evaluation_of(
    settings: Settings, version: ModelVersion, training_set: TrainingSet, recipe: Recipe
) -> Evaluation:
    """A version's answers to the held-out photos; kept, since neither ever changes."""
    from immr.evaluation.evaluate import Evaluation

    kept = _kept(settings, version, training_set, recipe)
    if kept.is_file():
        return Evaluation.read(kept)
    evaluation = _judge(
        settings,
        version,
        training_set.judgements,
        training_set.items,
        training_set.item_classes,
        recipe,
        Counter(photo.class_id for photo in training_set.queries),
    )
    evaluation.write(kept)
    return evaluation


def background(
    settings: Settings, version: ModelVersion, training_set: TrainingSet, recipe: Recipe
) -> Background:
    """What the report shows beside a version's evaluation: its curves, its data, versions judged before."""
    from immr.evaluation.evaluate import Evaluation
    from immr.evaluation.report import Background

    registry = wiring.registry(settings)
    curves = registry.fetch(version, settings.cache_dir) / "curves.json"
    others = {
        f"{other.id} ({other.recipe})": _kept(settings, other, training_set, recipe)
        for other in registry.versions()
        if other.id != version.id
    }
    return Background(
        curves=json.loads(curves.read_text()) if curves.is_file() else {},
        manifest=training_set.manifest,
        others={name: Evaluation.read(path) for name, path in others.items() if path.is_file()},
    )


def numbers(evaluation: Evaluation, verdict: GateVerdict) -> dict[str, float]:
    """What the registry keeps of an evaluation; names as MLflow takes them, numbers only."""
    found = evaluation.means()
    found |= {f"macro.{name}": interval.mean for name, interval in evaluation.macro.items()}
    found |= {
        f"slice.{name}.{metric}": part.intervals[metric].mean
        for name, part in evaluation.slices.items()
        for metric in ("recall@1", "map@10")
    }
    found |= {
        "calibration_error": evaluation.calibration.error,
        "score_order": evaluation.calibration.order,
        "gate.passed": float(verdict.passed),
    }
    found |= {f"gate.{name}": value for name, value in verdict.numbers.items()}
    return {re.sub(r"[^\w\-. @]", "_", name): value for name, value in found.items() if math.isfinite(value)}


def evaluate_dataset(
    settings: Settings, version: ModelVersion, dataset: str, split: str, recipe: Recipe
) -> Evaluation:
    """Judge a version on a split of a named data set, against all of its items.

    Raises:
        DatasetError: no such data set or split; the message lists those there are.
    """
    from immr.datasets.named import load_dataset

    labelled = load_dataset(dataset, settings.data_mirror, settings.cache_dir)
    class_of = {item.item_id: number for number, item in enumerate(labelled.items)}
    photos = [
        LabelledPhoto(f"{split}-{number}", photo.image, class_of[photo.item_id], photo.item_id)
        for number, photo in enumerate(labelled.split(split))
    ]
    return _judge(settings, version, photos, labelled.items, list(class_of.values()), recipe)


def embed_photos(folder: Path, uris: Sequence[str], threads: int = 2) -> FloatArray:
    """Embed photos as the Bento will: decoded, fitted and encoded by the version's ONNX query encoder.

    Returns:
        (N, D) float32, unit rows, in the order of `uris`.
    """
    from immr.data import images
    from immr.model.query_encoder import OnnxQueryEncoder

    encoder = OnnxQueryEncoder(folder, at_once=threads)
    enough_px = encoder.card.preprocessing.enough_px
    with ThreadPoolExecutor(threads) as pool:
        photos = pool.map(lambda uri: encoder.encode([images.load(uri, enough_px)]), uris)
        return np.concatenate(list(photos))


def _judge(
    settings: Settings,
    version: ModelVersion,
    photos: Sequence[LabelledPhoto],
    items: Sequence[Item],
    item_classes: Sequence[int],
    recipe: Recipe,
    training_counts: Mapping[int, int] | None = None,
) -> Evaluation:
    from immr.evaluation.evaluate import evaluate as judge
    from immr.model.documents import encode_documents

    if not photos:
        raise DataError(
            "there are no photos to judge by: add the table judgements to the data, or clicks of more than "
            "one user, and govern again"
        )
    folder = wiring.registry(settings).fetch(version, settings.cache_dir)
    embeddings_QD = embed_photos(folder, [photo.image for photo in photos])
    embeddings_ND = encode_documents(folder, items, settings.cache_dir)
    return judge(
        embeddings_QD,
        photos,
        embeddings_ND,
        items,
        item_classes,
        recipe.gate,
        training_counts=training_counts,
    )


def _kept(settings: Settings, version: ModelVersion, training_set: TrainingSet, recipe: Recipe) -> Path:
    from immr.evaluation.evaluate import FORMAT

    intervals = (recipe.gate.confidence, recipe.gate.bootstrap_rounds, recipe.gate.seed)
    key = fingerprint.of_values(FORMAT, version.key, training_set.hash, *intervals)[:16]
    return settings.work_dir / "evaluations" / f"{version.id}-{key}.json"
