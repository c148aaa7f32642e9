"""What comes in now against what the champion was judged by: photos, scores, categories, features."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from immr import wiring
from immr.data.training_set import TrainingSet
from immr.loop import evaluate as judging
from immr.settings import Settings
from immr.types import FloatArray, ModelVersion

if TYPE_CHECKING:
    import pyarrow as pa

    from immr.drift.findings import DriftPolicy, DriftReport

_CELLS_AT_ONCE = 4_000_000  # photos × documents


def drift(
    settings: Settings,
    version: ModelVersion,
    training_set: TrainingSet,
    days: float = 7.0,
    policy: DriftPolicy | None = None,
) -> DriftReport:
    """Compare the last days with the photos held out of the training set; the report is kept for the page.

    One photo and one click per user: what one user does again is no new evidence.

    Args:
        settings: where the event log, the kept photos and the features are.
        version: whose embeddings are compared; its training set belongs to it.
        training_set: what it was trained from.
        days: how far to look back.
        policy: what counts as drift.

    Raises:
        ImmrError: a part does not answer, or a held-out photo is gone.
    """
    from immr.drift import findings
    from immr.readout.sums import bots_among

    policy = policy or findings.DriftPolicy()
    now = datetime.now(UTC)
    since = now - timedelta(days=days)
    events = wiring.event_log(settings)
    joined, searches = events.joined(since), events.searches(since)
    events.close()
    bots = frozenset(bots_among(joined, searches))
    seen = [photo for photo in training_set.judgements if photo.class_id not in training_set.unseen_classes]
    held_out = _thinned([photo.image for photo in seen], policy.most_rows, policy.seed)
    photos = _thinned(_newest_photos(settings, searches, bots), policy.most_rows, policy.seed)
    folder = wiring.registry(settings).fetch(version, settings.cache_dir)
    reference_ND, new_MD = (_embedded(folder, uris) for uris in (held_out, photos))
    documents_KD = _documents(settings, folder, training_set) if photos else reference_ND
    category = {item.item_id: item.category for item in training_set.items}
    of_class = dict(zip(training_set.item_classes, category.values(), strict=True))
    report = findings.DriftReport(
        model_version=version.id,
        made=now,
        since=since,
        findings=(
            findings.of_photos(reference_ND, new_MD, policy),
            findings.of_scores(_best(reference_ND, documents_KD), _best(new_MD, documents_KD), policy),
            findings.of_categories(
                [of_class[photo.class_id] for photo in seen], _clicked(joined, category, bots), policy
            ),
            findings.of_features(wiring.features(settings).freshness(), now, policy),
        ),
    )
    report.write(settings.drift_file)
    return report


def _newest_photos(settings: Settings, searches: pa.Table, bots: frozenset[str]) -> list[str]:
    """The newest kept photo of each user."""
    from immr.events.photos import PhotoStore

    kept = PhotoStore(settings.photos_dir).by_query()
    newest = {
        user: str(kept[query])
        for query, user in zip(*(searches[name].to_pylist() for name in ("query_id", "user_id")), strict=True)
        if query in kept and user not in bots
    }
    return [newest[user] for user in sorted(newest)]


def _clicked(joined: pa.Table, category: dict[str, str], bots: frozenset[str]) -> list[str]:
    """The category of each user's newest click; what is not in the training set is new."""
    columns = (joined.filter(joined["clicked"])[name].to_pylist() for name in ("user_id", "item_id"))
    newest = dict(zip(*columns, strict=True))
    return [category.get(item, "new items") for user, item in newest.items() if user not in bots]


def _thinned(uris: list[str], most: int, seed: int) -> list[str]:
    if len(uris) <= most:
        return uris
    return [uris[at] for at in np.random.default_rng(seed).choice(len(uris), most, replace=False)]


def _embedded(folder: Path, uris: list[str]) -> FloatArray:
    return judging.embed_photos(folder, uris) if uris else np.zeros((0, 0), dtype=np.float32)


def _documents(settings: Settings, folder: Path, training_set: TrainingSet) -> FloatArray:
    from immr.model.documents import encode_documents

    return encode_documents(folder, training_set.items, settings.cache_dir)


def _best(photos_ND: FloatArray, documents_KD: FloatArray) -> FloatArray:
    """(N,): each photo's highest cosine."""
    size = max(_CELLS_AT_ONCE // max(len(documents_KD), 1), 1)
    parts = [
        (photos_ND[start : start + size] @ documents_KD.T).max(axis=1)
        for start in range(0, len(photos_ND), size)
    ]
    return np.concatenate([np.zeros(0, dtype=np.float32), *parts])
