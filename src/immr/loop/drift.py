"""Drift: compares recent photos, scores, categories and features with the held-out data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from immr.alerts.alert import Alert
from immr.loop.evaluate import embed_photos
from immr.storage.scratch import rows_at

if TYPE_CHECKING:
    from immr.data.training_set import TrainingSet
    from immr.drift.findings import DriftPolicy, DriftReport
    from immr.drift.recent_behaviour import Recent
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

    Each user contributes one photo and one click, see `immr.drift.recent_behaviour`.

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
    from immr.drift.recent_behaviour import sample

    policy = policy or findings.DriftPolicy()
    now = datetime.now(UTC)
    since = now - timedelta(days=days)
    category = training_set.categories
    now_seen = _now_seen(parts, since, category, policy)
    known = [photo for photo in training_set.judgements if photo.class_id not in training_set.unseen_classes]
    held_out = [known[at].image for at in sample(len(known), policy.most_rows, policy.seed)]
    folder = parts.registry.fetch(version, parts.settings.cache_dir)
    reference_ND, new_MD = (_embedded(folder, uris) for uris in (held_out, now_seen.photos))
    thin_ND, thin_MD = findings.thinned(reference_ND, new_MD, policy)
    documents_KD = _documents(parts, folder, training_set) if now_seen.photos else reference_ND
    of_class = dict(zip(training_set.item_classes, category.values(), strict=True))
    report = findings.DriftReport(
        model_version=version.id,
        made=now,
        since=since,
        findings=(
            findings.of_photos(reference_ND, new_MD, policy),
            findings.of_scores(_best(thin_ND, documents_KD), _best(thin_MD, documents_KD), policy),
            findings.of_categories(
                Counter(of_class[photo.class_id] for photo in known), now_seen.categories, policy
            ),
            findings.of_features(parts.features.freshness(), now, policy),
        ),
    )
    found = [f"{each.what}: {each.sentence} {each.look_at}".strip() for each in report.findings if each.found]
    if found:
        title = f"{version.id}: recent searches differ from its training data"
        # before the report: a process that is killed in between runs again, and reports twice instead of never
        parts.alerts.send(Alert(title, "\n".join(found), parts.settings.page_link))
    report.write(parts.settings.drift_file)
    parts.alerts.resume()
    return report


def _now_seen(parts: Parts, since: datetime, category: Mapping[str, str], policy: DriftPolicy) -> Recent:
    from immr.drift.recent_behaviour import recent
    from immr.events.query_photos import PhotoStore
    from immr.events.sink import on_disk

    with (
        on_disk(parts.events, since, "impressions", "searches") as files,
        PhotoStore(parts.settings.photos_dir).on_disk() as kept,
    ):
        shown, asked = files["impressions"], files["searches"]
        return recent(shown, asked, kept, category, policy.most_rows, policy.seed)


def _embedded(folder: Path, uris: list[str]) -> FloatArray:
    return embed_photos(folder, uris) if uris else np.zeros((0, 0), dtype=np.float32)


def _documents(parts: Parts, folder: Path, training_set: TrainingSet) -> FloatArray:
    from immr.model.documents import encode_pictures

    hashes = training_set.image_hashes()
    found = encode_pictures(folder, training_set.items, parts.settings.cache_dir, hashes=hashes)
    # recent photos may be class photos, which are as similar to themselves as no held-out photo is to anything
    return (
        found.rows_PD if found.photo_P is None else rows_at(found.rows_PD, np.flatnonzero(found.photo_P < 0))
    )


def _best(photos_ND: FloatArray, documents_KD: FloatArray) -> FloatArray:
    """(N,): each photo's highest cosine; reads the documents, which may be in a file, once."""
    best_N = np.full(len(photos_ND), -1, dtype=np.float32)
    size = max(_CELLS_AT_ONCE // max(len(photos_ND), 1), 1)
    for start in range(0, len(documents_KD) if len(photos_ND) else 0, size):
        np.maximum(best_N, (photos_ND @ documents_KD[start : start + size].T).max(axis=1), out=best_N)
    return best_N
