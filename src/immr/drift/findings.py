"""What changed, in sentences that say where to look. Pure: samples in, findings out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from immr.drift import two_sample
from immr.errors import DriftError
from immr.storage.atomic import write_atomically
from immr.types import FloatArray

PHOTOS, SCORES, CATEGORIES, FEATURES = "query photos", "scores", "categories", "features"


@dataclass(frozen=True)
class DriftPolicy:
    """What counts as drift."""

    alpha: float = 0.001  # of each test: asked daily, three tests cry wolf once a year
    least_rows: int = 100  # on either side, before anything is said
    most_rows: int = 500  # of embeddings on either side: time and memory go with the square
    least_stability_index: float = 0.1  # a shift of shares below this is small, however certain
    features_max_age: timedelta = timedelta(days=2)
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1 or not 2 <= self.least_rows <= self.most_rows:
            raise DriftError(
                f"no test with alpha {self.alpha} and {self.least_rows} to {self.most_rows} rows: give an "
                "alpha between 0 and 1, and at least 2 rows"
            )


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `found` is None where too little is known to say."""

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
    since: datetime  # what came in from then on was looked at
    findings: tuple[Finding, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`."""
        return asdict(self) | {"made": self.made.isoformat(), "since": self.since.isoformat()}

    def write(self, path: Path) -> None:
        """Keep it where the page reads it."""
        write_atomically(path, json.dumps(self.to_json(), indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> DriftReport | None:
        """The report that `write` kept; None where there is none.

        Raises:
            DriftError: the file is something else.
        """
        try:
            fields = json.loads(path.read_text())
            return cls(
                model_version=fields["model_version"],
                made=datetime.fromisoformat(fields["made"]),
                since=datetime.fromisoformat(fields["since"]),
                findings=tuple(Finding(**finding) for finding in fields["findings"]),
            )
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise DriftError(f"{path} is no drift report ({error}): run `immr drift` again") from error


def of_photos(reference_ND: FloatArray, new_MD: FloatArray, policy: DriftPolicy) -> Finding:
    """Do the photos lie where those lay that the version was judged by?

    Args:
        reference_ND: Embeddings of held-out photos; those that were learned from lie tighter than new ones.
        new_MD: Embeddings of query photos, one per user.
        policy: What counts.
    """
    if few := _too_few(PHOTOS, len(reference_ND), len(new_MD), policy):
        return few
    rng = np.random.default_rng(policy.seed)
    reference_ND, new_MD = (_sample(rows, policy.most_rows, rng) for rows in (reference_ND, new_MD))
    found = two_sample.mmd(reference_ND, new_MD, round(2 / policy.alpha), policy.seed)
    drifted = found.p_value <= policy.alpha
    return Finding(
        PHOTOS,
        drifted,
        f"The photos of {len(new_MD)} users {'do not lie' if drifted else 'lie'} where the held-out ones lie "
        f"(MMD² {found.distance:.4f}, p = {found.p_value:.2g}).",
        "Look at the newest kept photos: another camera or app, another framing, a new kind of item? Then "
        "`immr events export` and train on what is photographed now."
        if drifted
        else "",
        {"mmd2": found.distance, "p_value": found.p_value},
    )


def of_scores(reference_N: FloatArray, new_M: FloatArray, policy: DriftPolicy) -> Finding:
    """Are the best answers as near to their photos as they were? Both: highest cosine per photo."""
    if few := _too_few(SCORES, len(reference_N), len(new_M), policy):
        return few
    found = two_sample.numbers(reference_N, new_M)
    before, now = float(np.median(reference_N)), float(np.median(new_M))
    drifted = found.p_value <= policy.alpha
    lower = now < before
    return Finding(
        SCORES,
        drifted,
        f"The best answer's cosine is {now:.3f} in the middle, it was {before:.3f} "
        f"(KS distance {found.distance:.2f}, p = {found.p_value:.2g}).",
        (
            "Lower: do shoppers photograph what the catalogue does not have? See whether the index has the "
            "whole catalogue."
            if lower
            else "Higher: screenshots of the catalogue's own pictures? Look at the newest kept photos."
        )
        if drifted
        else "",
        {"median_before": before, "median_now": now, "p_value": found.p_value},
    )


def of_categories(reference: Sequence[str], new: Sequence[str], policy: DriftPolicy) -> Finding:
    """Do shoppers look for the same? Categories of held-out photos, and of clicked items, one per user."""
    if few := _too_few(CATEGORIES, len(reference), len(new), policy):
        return few
    found = two_sample.shares(Counter(reference), Counter(new))
    drifted = found.p_value <= policy.alpha and found.distance >= policy.least_stability_index
    moved = ", ".join(f"{name} {before:.0%} → {now:.0%}" for name, before, now in found.moved)
    return Finding(
        CATEGORIES,
        drifted,
        f"{'Other' if drifted else 'The same'} categories are clicked: {moved} "
        f"(stability index {found.distance:.2f}, p = {found.p_value:.2g}).",
        "A season, a campaign, items that are sold out? Look at CTR by category; train on the newest log."
        if drifted
        else "",
        {"stability_index": found.distance, "p_value": found.p_value},
    )


def of_features(newest: datetime | None, now: datetime, policy: DriftPolicy) -> Finding:
    """Are the item features that rank the answers fresh?"""
    if newest is None:
        return Finding(FEATURES, None, "No item features were ever loaded.", "Run `immr materialize`.")
    age = now - newest
    old = age > policy.features_max_age
    hours, allowed = (span.total_seconds() / 3600 for span in (age, policy.features_max_age))
    return Finding(
        FEATURES,
        old,
        f"The newest item features are {hours:.1f} hours old, {allowed:.0f} are allowed.",
        "Did the pipeline's step `materialize` run? Its log says what failed." if old else "",
        {"age_s": age.total_seconds()},
    )


def _too_few(what: str, reference: int, new: int, policy: DriftPolicy) -> Finding | None:
    if min(reference, new) >= policy.least_rows:
        return None
    return Finding(
        what,
        None,
        f"Too little to compare: {reference} held out, {new} users', {policy.least_rows} of each are needed.",
        "Keep photos with IMMR_KEEP_PHOTOS=1, and look at more days." if new < policy.least_rows else "",
    )


def _sample(rows_ND: FloatArray, most: int, rng: np.random.Generator) -> FloatArray:
    if len(rows_ND) <= most:
        return rows_ND
    chosen: FloatArray = rows_ND[rng.choice(len(rows_ND), most, replace=False)]
    return chosen
