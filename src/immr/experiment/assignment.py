"""Who sees which variant: a hash, no state, the same answer in every process."""

from __future__ import annotations

import hashlib

from immr.experiment.definition import Experiment, Variant

BUCKETS = 10_000


def bucket(salt: str, user_id: str) -> int:
    """The user's bucket, 0 … 9999: uniform, and unrelated to the buckets under another salt."""
    # The salt is hashed apart, so that no salt and user run together into those of another pair.
    salted = hashlib.sha256(salt.encode("utf-8", "surrogatepass")).digest()
    digest = hashlib.sha256(salted + user_id.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") % BUCKETS


def assign(experiment: Experiment, user_id: str) -> Variant:
    """The user's variant. The challenger owns the lowest buckets, so raising its weight takes no one from it.

    An experiment that is stopped, or shadows only, sends everyone to the champion.
    """
    challenger = experiment.challenger
    if challenger is None or experiment.state != "running":
        return experiment.champion
    owned = round(challenger.weight * BUCKETS)
    return challenger if bucket(experiment.salt, user_id) < owned else experiment.champion
