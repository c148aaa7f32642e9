"""Drift findings: what has changed, and where to look. Pure functions: samples in, findings out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from immr.drift import two_sample
from immr.drift.thinning import burst_cosine, one_of_each_burst
from immr.errors import DriftError
from immr.machine.wording import counted
from immr.storage.atomic import write_atomically
from immr.types import FloatArray

PHOTOS, SCORES, CATEGORIES, FEATURES = "query photos", "scores", "categories", "features"


@dataclass(frozen=True)
class DriftPolicy:
    """What counts as drift."""

    alpha: float = 0.001  # of each test: three tests run daily give about one false alarm a year
    least_rows: int = 100  # in each sample, before thinning, for any verdict
    most_rows: int = 500  # embeddings per sample: time and memory grow with the square
    least_stability_index: float = 0.1  # a smaller shift of shares does not matter, however certain it is
    features_max_age: timedelta = timedelta(days=2)
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1 or not 2 <= self.least_rows <= self.most_rows:
            raise DriftError(
                f"alpha is {self.alpha} and the samples have {self.least_rows} to {self.most_rows} rows: give "
                "an alpha between 0 and 1, and at least 2 rows"
            )


@dataclass(frozen=True)
class DriftFinding:
    """The result of one check. `found` is None if there were too few data to decide."""

    what: str
    found: bool | None
    sentence: str
    look_at: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class DriftReport:
    """All findings about one model version."""

    model_version: str
    made: datetime
    since: datetime  # data from then on were compared
    findings: tuple[DriftFinding, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`."""
        return asdict(self) | {"made": self.made.isoformat(), "since": self.since.isoformat()}

    def write(self, path: Path) -> None:
        """Write the report where the page reads it."""
        write_atomically(path, json.dumps(self.to_json(), indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> DriftReport | None:
        """The report at this path; None if there is no file.

        Raises:
            DriftError: The file is not a drift report.
        """
        try:
            fields = json.loads(path.read_text())
            return cls(
                model_version=fields["model_version"],
                made=datetime.fromisoformat(fields["made"]),
                since=datetime.fromisoformat(fields["since"]),
                findings=tuple(DriftFinding(**finding) for finding in fields["findings"]),
            )
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise DriftError(f"{path} is not a drift report ({error}): run `immr drift` again") from error


def of_photos(reference_ND: FloatArray, new_MD: FloatArray, policy: DriftPolicy) -> DriftFinding:
    """Compare the embeddings of recent query photos with those of held-out photos.

    Args:
        reference_ND: Held-out photos with unit rows. Training photos cannot serve: they are closer to
            their classes than new ones.
        new_MD: Photos of clicked queries, one per user, as training would keep them.
        policy: What counts as drift.
    """
    if few := _too_few(PHOTOS, len(reference_ND), len(new_MD), policy):
        return few
    reference_ND, new_MD = thinned(reference_ND, new_MD, policy)
    if len(reference_ND) < 2:  # a sample's own distances are between its rows
        return DriftFinding(
            PHOTOS,
            None,
            "The held-out photos are near copies of each other, so no photo can be compared with them.",
            "Train on a log with photos of more things.",
        )
    found = two_sample.mmd(reference_ND, new_MD, round(2 / policy.alpha), policy.seed)
    drifted = found.p_value <= policy.alpha
    return DriftFinding(
        PHOTOS,
        drifted,
        f"The photos of {counted(len(new_MD), 'user')} {'differ from' if drifted else 'resemble'} the held-out "
        f"photos (MMD² {found.distance:.4f}, p = {found.p_value:.2g}).",
        "Look at the newest kept photos: is there a new camera or app, another framing, a new kind of item? "
        "Then run `immr events export` and train on them."
        if drifted
        else "",
        {"mmd2": found.distance, "p_value": found.p_value},
    )


def of_scores(reference_N: FloatArray, new_M: FloatArray, policy: DriftPolicy) -> DriftFinding:
    """Compare the highest cosine per photo, recent against held-out; both thinned (`thinned`)."""
    if few := _too_few(SCORES, len(reference_N), len(new_M), policy):
        return few
    found = two_sample.numbers(reference_N, new_M)
    before, now = float(np.median(reference_N)), float(np.median(new_M))
    drifted = found.p_value <= policy.alpha
    lower = now < before
    return DriftFinding(
        SCORES,
        drifted,
        f"The median cosine of the best answer is {now:.3f}; for the held-out photos it is {before:.3f} "
        f"(KS distance {found.distance:.2f}, p = {found.p_value:.2g}).",
        (
            "Lower: do shoppers photograph items that the catalogue lacks? Check that the index holds the whole "
            "catalogue."
            if lower
            else "Higher: do shoppers send screenshots of the catalogue's pictures? Look at the newest kept photos."
        )
        if drifted
        else "",
        {"median_before": before, "median_now": now, "p_value": found.p_value},
    )


def of_categories(reference: Mapping[str, int], new: Mapping[str, int], policy: DriftPolicy) -> DriftFinding:
    """Compare how many held-out photos and clicked items, one per user, each category has."""
    if few := _too_few(CATEGORIES, sum(reference.values()), sum(new.values()), policy):
        return few
    found = two_sample.shares(reference, new, round(2 / policy.alpha), policy.seed)
    drifted = found.p_value <= policy.alpha and found.distance >= policy.least_stability_index
    moved = ", ".join(f"{name} {before:.0%} → {now:.0%}" for name, before, now in found.moved)
    return DriftFinding(
        CATEGORIES,
        drifted,
        f"Shoppers click {'other' if drifted else 'the same'} categories: {moved} "
        f"(stability index {found.distance:.2f}, p = {found.p_value:.2g}).",
        "Is it a season, a campaign, or items out of stock? Look at the CTR by category, and train on the newest "
        "log."
        if drifted
        else "",
        {"stability_index": found.distance, "p_value": found.p_value},
    )


def of_features(newest: datetime | None, now: datetime, policy: DriftPolicy) -> DriftFinding:
    """Check that the item features used for ranking are fresh."""
    if newest is None:
        return DriftFinding(
            FEATURES, None, "No item features have been loaded yet.", "Run `immr materialize`."
        )
    age = now - newest
    old = age > policy.features_max_age
    hours, allowed = (span.total_seconds() / 3600 for span in (age, policy.features_max_age))
    return DriftFinding(
        FEATURES,
        old,
        f"The newest item features are {hours:.1f} hours old; {allowed:.0f} hours are allowed.",
        "Check the log of the pipeline's step `materialize`." if old else "",
        {"age_s": age.total_seconds()},
    )


def _too_few(what: str, reference: int, new: int, policy: DriftPolicy) -> DriftFinding | None:
    if min(reference, new) >= policy.least_rows:
        return None
    return DriftFinding(
        what,
        None,
        f"Too few data: {reference} held-out and {new} recent ones; at least {policy.least_rows} of each are needed.",
        "Keep photos with IMMR_KEEP_PHOTOS=1, or look at more days." if new < policy.least_rows else "",
    )


def thinned(
    reference_ND: FloatArray, new_MD: FloatArray, policy: DriftPolicy
) -> tuple[FloatArray, FloatArray]:
    """Both samples with one photo of each burst; unchanged if there are too few.

    Both get equally many rows first, so that a larger sample is not thinned more.
    """
    rng = np.random.default_rng(policy.seed)
    size = min(len(reference_ND), len(new_MD), policy.most_rows)
    if size < policy.least_rows:
        return reference_ND, new_MD
    new_MD = _sample(new_MD, size, rng)
    least_cosine = burst_cosine(new_MD)
    reference_ND = one_of_each_burst(_sample(reference_ND, size, rng), least_cosine)
    return reference_ND, one_of_each_burst(new_MD, least_cosine)


def _sample(rows_ND: FloatArray, most: int, rng: np.random.Generator) -> FloatArray:
    if len(rows_ND) <= most:
        return rows_ND
    chosen: FloatArray = rows_ND[rng.choice(len(rows_ND), most, replace=False)]
    return chosen
