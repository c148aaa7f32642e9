"""Who is held out, and from when: whole users, in the last days of the log, a gap after training ends. (ours)

A version serves searches that are later than its training photos. Held-out photos from the same weeks miss what
changes in between: packaging, products, light, cameras. So training ends before the last part of the log, and
held-out photos come after a gap. Users who first appear there cost training nothing. Of the others, as many are
held out as the recipe allows to leave training with their earlier photos.

A log that is too short or too small for this is split by users alone.

Shapes: N photos, U users.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from immr.governance.governance_recipe import GovernanceRecipe
from immr.governance.labels.class_scores import Bools, Ints

FEWEST = 300  # held-out photos; with 300, three of four equal versions pass the gate (`benchmarks.evaluation.gate`)
MOST_DAYS = 7  # held out; in `benchmarks.governance --world drift`, training without more of them cost recall
SILENT_DAYS = 365  # no shop is silent for so long: what follows has wrong clocks
DAY_US = 86_400_000_000


@dataclass(frozen=True)
class Periods:
    """What each photo may be used for, before near copies are considered."""

    held_user_N: Bools  # its user is held out
    early_N: Bools  # early enough for training
    late_N: Bools  # late enough to be held out

    @property
    def after_training(self) -> bool:
        """Whether held-out photos are later than training photos, not from the same days."""
        return not self.early_N.all()


def periods(users: pa.ChunkedArray, time_N: Ints, settled_N: Bools, recipe: GovernanceRecipe) -> Periods:
    """Choose held-out users by hash, and the days if the log allows it; the same on every engine and every day.

    An id with more than `held_out_share` of the photos stays in training if there are others: a device that
    many shoppers share, or all who have not signed in.

    Args:
        users: (N,) user ids.
        time_N: microseconds.
        settled_N: whether a photo's clicks agree; others cannot be held out.
        recipe: `held_out_share` and `held_out_gap_days`.
    """
    user_N, by_hash_U = _numbered_by_hash(users)
    photos_U = np.bincount(user_N, minlength=len(by_hash_U))
    most = max(len(user_N) * recipe.held_out_share, len(user_N) / max(len(by_hash_U), 1))
    candidates_U = by_hash_U[photos_U[by_hash_U] <= most]
    later = _later(user_N, candidates_U, time_N, recipe)
    if later and (later.held_user_N & later.late_N & settled_N).sum() >= FEWEST:
        return later
    count = min(math.ceil(len(by_hash_U) * recipe.held_out_share), len(by_hash_U) - 1)
    everything_N = np.ones(len(user_N), bool)
    return Periods(np.isin(user_N, candidates_U[: max(count, 0)]), everything_N, everything_N)


def _later(user_N: Ints, candidates_U: Ints, time_N: Ints, recipe: GovernanceRecipe) -> Periods | None:
    """The last days of the log, after the gap; None if that leaves training too little."""
    photos, most = len(user_N), len(user_N) * recipe.held_out_share
    if not recipe.held_out_gap_days or not 1 <= most < photos:
        return None
    sorted_M = _before_silence(np.sort(time_N), int(most))
    end = sorted_M[-1 - len(sorted_M) // 1000]  # a few clocks may be some weeks ahead
    begin = max(sorted_M[max(len(sorted_M) - int(most), 0)], end - MOST_DAYS * DAY_US)
    late_N = (time_N >= begin) & (time_N <= end + DAY_US)
    early_N = time_N < begin - round(recipe.held_out_gap_days * DAY_US)
    if photos - early_N.sum() > 2 * most:  # a short log, or one with the same time everywhere
        return None
    early_U = np.bincount(user_N, early_N)[candidates_U]
    appears_U = np.bincount(user_N, late_N)[candidates_U] > 0
    held_U = appears_U & ((early_U == 0) | (np.cumsum(early_U * appears_U) <= most))
    held_N = np.isin(user_N, candidates_U[held_U])
    return Periods(held_N, early_N, late_N) if (early_N & ~held_N).any() else None


def _before_silence(sorted_N: Ints, most: int) -> Ints:
    """The times before a silence of `SILENT_DAYS`, if at most `most` photos come after it."""
    first = len(sorted_N) - most - 1
    silences = np.flatnonzero(np.diff(sorted_N[first:]) > SILENT_DAYS * DAY_US)
    return sorted_N[: first + silences[0] + 1] if len(silences) else sorted_N


def _numbered_by_hash(users: pa.ChunkedArray) -> tuple[Ints, Ints]:
    """(N,) number of each photo's user, and (U,) these numbers in the order of the ids' hashes."""
    encoded = users.combine_chunks().dictionary_encode()
    names = encoded.dictionary.to_pylist()
    keys = [(hashlib.md5(name.encode(), usedforsecurity=False).digest(), name) for name in names]
    order = sorted(range(len(names)), key=keys.__getitem__)
    return encoded.indices.to_numpy().astype(np.int64), np.array(order, np.int64)
