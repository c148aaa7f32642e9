"""Drift: compares recent photos, scores, categories and features with the held-out data."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from immr.alerts.alert import Alert
from immr.loop.evaluate import embed_photos

if TYPE_CHECKING:
    import pyarrow as pa

    from immr.data.training_set import TrainingSet
    from immr.drift.findings import DriftPolicy, DriftReport
    from immr.types import FloatArray, ModelVersion
    from immr.wiring import Parts

_CELLS_AT_ONCE = 4_000_000  # photos × documents


def drift(
    parts: Parts,
    version: ModelVersion,
    training_set: TrainingSet,
    days: float = 7.0,
    policy: DriftPolicy | None = None,
) -> DriftReport:
    """Compare the last days with the photos held out of the training set, and write the report for the page.

    Each user contributes one photo and one click, because a user's repeats are not independent.

    Args:
        parts: The process's adapters.
        version: The version that embeds both samples.
        training_set: What that version was trained on.
        days: How far to look back.
        policy: What counts as drift.

    Raises:
        EventLogError: The event log does not answer.
        ImageError: A held-out photo is missing or unreadable.
    """
    from immr.drift import findings
    from immr.readout.sums import bots_among

    policy = policy or findings.DriftPolicy()
    now = datetime.now(UTC)
    since = now - timedelta(days=days)
    joined, searches = parts.events.joined(since), parts.events.searches(since)
    bots = frozenset(bots_among(joined, searches))
    known = [photo for photo in training_set.judgements if photo.class_id not in training_set.unseen_classes]
    held_out = _thinned([photo.image for photo in known], policy.most_rows, policy.seed)
    photos = _thinned(_newest_clicked_photos(parts, joined, bots), policy.most_rows, policy.seed)
    folder = parts.registry.fetch(version, parts.settings.cache_dir)
    reference_ND, new_MD = (_embedded(folder, uris) for uris in (held_out, photos))
    thin_ND, thin_MD = findings.thinned(reference_ND, new_MD, policy)
    documents_KD = _documents(parts, folder, training_set) if photos else reference_ND
    category = training_set.categories
    of_class = dict(zip(training_set.item_classes, category.values(), strict=True))
    report = findings.DriftReport(
        model_version=version.id,
        made=now,
        since=since,
        findings=(
            findings.of_photos(reference_ND, new_MD, policy),
            findings.of_scores(_best(thin_ND, documents_KD), _best(thin_MD, documents_KD), policy),
            findings.of_categories(
                [of_class[photo.class_id] for photo in known], _clicked(joined, category, bots), policy
            ),
            findings.of_features(parts.features.freshness(), now, policy),
        ),
    )
    report.write(parts.settings.drift_file)
    found = [f"{each.what}: {each.sentence} {each.look_at}".strip() for each in report.findings if each.found]
    if found:
        title = f"{version.id}: recent searches differ from its training data"
        parts.alerts.send(Alert(title, "\n".join(found), parts.settings.page_link))
    return report


def _newest_clicked_photos(parts: Parts, joined: pa.Table, bots: frozenset[str]) -> list[str]:
    """The newest kept photo of each user with a click: governance trains on and holds out clicked queries only."""
    from immr.events.photos import PhotoStore

    kept = PhotoStore(parts.settings.photos_dir).by_query()
    clicked = joined.filter(joined["clicked"])
    newest = {
        user: str(kept[query])
        for query, user in zip(*(clicked[name].to_pylist() for name in ("query_id", "user_id")), strict=True)
        if query in kept and user not in bots
    }
    return [newest[user] for user in sorted(newest)]


def _clicked(joined: pa.Table, category: dict[str, str], bots: frozenset[str]) -> list[str]:
    """The category of each user's newest click; items outside the training set count as new."""
    columns = (joined.filter(joined["clicked"])[name].to_pylist() for name in ("user_id", "item_id"))
    newest = dict(zip(*columns, strict=True))
    return [category.get(item, "new items") for user, item in newest.items() if user not in bots]


def _thinned(uris: list[str], most: int, seed: int) -> list[str]:
    if len(uris) <= most:
        return uris
    return [uris[at] for at in np.random.default_rng(seed).choice(len(uris), most, replace=False)]


def _embedded(folder: Path, uris: list[str]) -> FloatArray:
    return embed_photos(folder, uris) if uris else np.zeros((0, 0), dtype=np.float32)


def _documents(parts: Parts, folder: Path, training_set: TrainingSet) -> FloatArray:
    from immr.model.documents import encode_pictures

    hashes = training_set.image_hashes()
    return encode_pictures(folder, training_set.items, parts.settings.cache_dir, hashes=hashes).rows_PD


def _best(photos_ND: FloatArray, documents_KD: FloatArray) -> FloatArray:
    """(N,): each photo's highest cosine."""
    size = max(_CELLS_AT_ONCE // max(len(documents_KD), 1), 1)
    parts = [
        (photos_ND[start : start + size] @ documents_KD.T).max(axis=1)
        for start in range(0, len(photos_ND), size)
    ]
    return np.concatenate([np.zeros(0, dtype=np.float32), *parts])
