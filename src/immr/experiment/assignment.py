"""Assigns users to variants by a hash: without state, and the same in every process."""

from __future__ import annotations

import hashlib

from immr.experiment.definition import Experiment, Variant

BUCKETS = 10_000


def bucket(salt: str, user_id: str) -> int:
    """The user's bucket, 0 to 9999: uniform, and independent of the buckets under another salt."""
    # The salt is hashed separately, so that two different pairs never concatenate to the same text.
    salted = hashlib.sha256(salt.encode("utf-8", "surrogatepass")).digest()
    digest = hashlib.sha256(salted + user_id.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") % BUCKETS


def assign(experiment: Experiment, user_id: str) -> Variant:
    """The user's variant. The challenger owns the lowest buckets, so a larger weight only adds users to it.

    All users get the champion while the experiment is stopped or in shadow.
    """
    challenger = experiment.challenger
    if challenger is None or experiment.state != "running":
        return experiment.champion
    owned = round(challenger.weight * BUCKETS)
    return challenger if bucket(experiment.salt, user_id) < owned else experiment.champion
