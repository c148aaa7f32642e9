"""What an oracle makes of swapped labels, to tell what cleaning misses from what nobody could know.

It knows which classes are swapped, how often, and the true classes of all other photos. Only the photo itself is
judged by its looks, with the same features, folds and thresholds as in `labels.cleaning`.
"""

from __future__ import annotations

import numpy as np

from immr.governance.governance_recipe import GovernanceRecipe
from immr.governance.labels import class_scores
from immr.governance.labels.class_scores import Bools, Ints, power_normalised
from immr.types import FloatArray

_FOLDS = 5


def labels(x_NF: FloatArray, truth_N: Ints, given_N: Ints, rival_C: Ints, recipe: GovernanceRecipe) -> Ints:
    """(N,) the class that the oracle trains on, −1 where it drops the photo.

    Args:
        x_NF: features.
        truth_N: true classes.
        given_N: labels.
        rival_C: the class with which each class swaps labels, −1 for none.
        recipe: the thresholds to keep and to move.
    """
    rows = np.arange(len(truth_N))
    rival_N = rival_C[given_N]
    clicks = np.concatenate(
        [np.stack([rows, given_N], axis=1), np.stack([rows, np.maximum(rival_N, 0)], axis=1)]
    )
    scores = class_scores.out_of_fold(
        power_normalised(x_NF),
        (rows, truth_N, np.ones(len(rows), np.float32)),
        np.random.default_rng(0).integers(0, _FOLDS, len(rows)),
        clicks,
        len(rival_C),
        recipe.clean_ridge,
    )
    margin_N = scores.clicked_R[: len(rows)] - scores.clicked_R[len(rows) :]
    right_N = np.ones(len(rows))
    for one in np.flatnonzero(rival_C > np.arange(len(rival_C))):
        of_pair_N = np.isin(given_N, [one, rival_C[one]])
        right_N[of_pair_N] = _right(
            margin_N[of_pair_N], (given_N == truth_N)[of_pair_N], (given_N == one)[of_pair_N]
        )
    moved_N = (1 - right_N >= recipe.clean_move) & (rival_N >= 0)
    chosen_N: Ints = np.select([right_N >= recipe.clean_keep, moved_N], [given_N, rival_N], -1)
    return chosen_N


def _right(margin_M: FloatArray, right_M: Bools, first_M: Bools) -> FloatArray:
    """(M,) probability of the label: Bayes' rule with the true rates and the true spread of the margins."""
    towards_M = np.where(first_M, margin_M, -margin_M)
    is_first_M = first_M == right_M
    high, low = towards_M[is_first_M].mean(), towards_M[~is_first_M].mean()
    spread = np.sqrt(np.square(towards_M - np.where(is_first_M, high, low)).mean())
    prior_M = np.where(first_M, is_first_M[first_M].mean(), is_first_M[~first_M].mean())
    high_M = prior_M * np.exp(-0.5 * np.square((towards_M - high) / spread))
    low_M = (1 - prior_M) * np.exp(-0.5 * np.square((towards_M - low) / spread))
    first_is_right_M = high_M / np.maximum(high_M + low_M, 1e-300)
    found_M: FloatArray = np.where(first_M, first_is_right_M, 1 - first_is_right_M)
    return found_M
