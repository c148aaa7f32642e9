"""Assigns users to variants by a hash: without state, and the same in every process."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import accumulate

from immr.experiment.definition import ENDED, HOLDOUT, Experiment, Variant

BUCKETS = 10_000


def bucket(salt: str, user_id: str) -> int:
    """The user's bucket, 0 to 9999: uniform, and independent of the buckets under another salt."""
    # The salt is hashed separately, so that two different pairs never concatenate to the same text.
    salted = hashlib.sha256(salt.encode("utf-8", "surrogatepass")).digest()
    digest = hashlib.sha256(salted + user_id.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") % BUCKETS


def assign(experiment: Experiment, user_id: str) -> Variant:
    """The variant that answers the user.

    The champion answers all users while the experiment is stopped or in shadow. Users of the holdout, or of a
    challenger that has left the test, always get the champion.
    """
    if experiment.state != "running" or is_held_out(experiment, user_id):
        return experiment.champion
    chosen = _chosen(experiment, user_id)
    return experiment.champion if chosen.ended else chosen


def group(experiment: Experiment, user_id: str) -> str:
    """The user's group as events record it: the name of their variant, `HOLDOUT` or `ENDED`."""
    if is_held_out(experiment, user_id):
        return HOLDOUT
    if experiment.state != "running":
        return experiment.champion.name
    chosen = _chosen(experiment, user_id)
    return ENDED if chosen.ended else chosen.name


def is_held_out(experiment: Experiment, user_id: str) -> bool:
    """Whether the user belongs to the holdout. A larger share only adds users to it."""
    holdout = experiment.holdout
    return holdout is not None and bucket(holdout.salt, user_id) < round(holdout.share * BUCKETS)


def exact_shares(experiment: Experiment) -> dict[str, float]:
    """Each variant's share of the users outside the holdout: its weight, rounded to whole buckets."""
    challengers = experiment.challengers
    total = sum(each.weight for each in challengers)
    tested = round(total * BUCKETS) / BUCKETS
    shares = {experiment.champion.name: 1 - tested}
    before = 0
    for challenger, end in zip(challengers, _ends(challengers), strict=True):
        shares[challenger.name] = tested * (end - before) / BUCKETS
        before = end
    return shares


def _chosen(experiment: Experiment, user_id: str) -> Variant:
    """The challengers own the lowest buckets, so larger weights only add users to them.

    With several challengers, a second hash chooses among them by their relative weights. A ramp does not change
    these, so nobody moves from one challenger to another.
    """
    challengers = experiment.challengers
    total = sum(each.weight for each in challengers)
    if bucket(experiment.salt, user_id) >= round(total * BUCKETS):
        return experiment.champion
    second = bucket(f"{experiment.salt}/challenger", user_id) if len(challengers) > 1 else 0
    return next(each for each, end in zip(challengers, _ends(challengers), strict=True) if second < end)


def _ends(challengers: Sequence[Variant]) -> list[int]:
    """The first bucket of the second hash beyond each challenger's; all 0 if none gets users."""
    weights = list(accumulate(each.weight for each in challengers))
    return [round(weight / weights[-1] * BUCKETS) if weights[-1] else 0 for weight in weights]
