"""Sample ratio: does the number of users per variant match the shares? A test that may be run at every look.

M. Lindon and A. Malek, *Anytime-valid inference for multinomial count data*, arXiv 2011.03567 (NeurIPS 2022):
the Bayes factor of a Dirichlet prior around the weights against the weights themselves is a martingale while
the weights hold, so over all looks together it exceeds 1/α with probability α at most. One prior finds either
small or large mismatches, so ours is the mean over three concentrations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from immr.experiment.assignment import exact_shares
from immr.experiment.definition import Experiment
from immr.machine.wording import counted
from immr.readout.bots import Marked
from immr.types import in_a_sentence

ALPHA = 0.003  # probability of ever withholding a sound test; relevant mismatches are found anyway
_CONCENTRATIONS = (300.0, 10_000.0, 300_000.0)
OF_FEW = (1.0, 10.0, 100.0)
"""Concentrations for tens of users, where only a large mismatch can be found."""


@dataclass(frozen=True, slots=True)
class SampleRatio:
    """Users per variant against the weights. On a mismatch, something other than the models differs."""

    observed: Mapping[str, int]
    expected: Mapping[str, float]
    p_value: float  # always valid
    ok: bool

    @property
    def sentence(self) -> str:
        """What does not match, and the likely causes."""
        return (
            f"the number of users does not match the shares: {self._counts('user')}. Likely "
            "causes: events of one variant are lost, bots, or weights that were changed during the test "
            "without a new `started`"
        )

    @property
    def sentence_of_bots(self) -> str:
        """The same of users that were left out as bots."""
        return (
            f"the number of bots does not match the shares: {self._counts('bot')}. Likely causes: heavy users who no "
            "longer click on anything in one variant, and are left out as bots, or a bot with many ids that keeps "
            "those of one variant"
        )

    def _counts(self, unit: str) -> str:
        counts = ", ".join(
            f"{in_a_sentence(name)} has {counted(self.observed[name], unit)} instead of {expected:,.0f}"
            for name, expected in self.expected.items()
        )
        return f"{counts} (p = {self.p_value:.2g})"


def users_ratio(experiment: Experiment, users: Mapping[str, int]) -> SampleRatio | None:
    """Test the users of the variants that still get any: a challenger that has left gets none."""
    weights = _weights(experiment)
    return sample_ratio(weights, {name: users[name] for name in weights})


def bots_ratio(experiment: Experiment, bots: Sequence[Marked]) -> SampleRatio | None:
    """Test the bots: if a version gets no clicks from its heaviest users, they look like bots."""
    weights = _weights(experiment)
    counts = {name: sum(each.users for each in bots if each.variant == name) for name in weights}
    return sample_ratio(weights, counts, OF_FEW)


def _weights(experiment: Experiment) -> dict[str, float]:
    shares = exact_shares(experiment)
    names = [side.name for side in experiment.variants if not side.ended]
    total = sum(shares[name] for name in names)
    return {name: shares[name] / total for name in names}


def sample_ratio(
    weights: Mapping[str, float],
    observed: Mapping[str, int],
    concentrations: Sequence[float] = _CONCENTRATIONS,
) -> SampleRatio | None:
    """Test the users against the weights, both by variant; None if only one variant gets users."""
    total = sum(observed.values())
    expected = {name: weight * total for name, weight in weights.items()}
    weighted = [name for name, weight in weights.items() if weight > 0]
    if any(observed[name] and not weights[name] for name in weights):
        p_value = 0.0  # users in a variant without weight
    elif len(weighted) < 2 or not total:
        return None
    else:
        counts_V1 = np.array([[observed[name]] for name in weighted], dtype=np.float64)
        weights_V = np.array([weights[name] for name in weighted])
        [p_value] = mismatch_p_values(counts_V1, weights_V, concentrations).tolist()
    return SampleRatio(dict(observed), expected, p_value, p_value >= ALPHA)


def mismatch_p_values(
    users_VL: npt.NDArray[np.float64],
    weights_V: npt.NDArray[np.float64],
    concentrations: Sequence[float] = _CONCENTRATIONS,
) -> npt.NDArray[np.float64]:
    """Always-valid p-values, (L,): the inverse of the Bayes factor, 1 at most.

    Args:
        users_VL: Users of V variants at each of L looks.
        weights_V: Their weights, all above zero; they sum to 1.
        concentrations: Of the priors: the larger, the closer to the weights.
    """
    from scipy.special import gammaln

    total_L = users_VL.sum(axis=0)
    log_null_L = (users_VL * np.log(weights_V)[:, None]).sum(axis=0)
    log_factors_CL = []
    for concentration in concentrations:
        prior_V1 = concentration * weights_V[:, None]
        gained_L = (gammaln(prior_V1 + users_VL) - gammaln(prior_V1)).sum(axis=0)
        spread_L = gammaln(concentration + total_L) - gammaln(concentration)
        log_factors_CL.append(gained_L - spread_L - log_null_L)
    log_factor_L = np.logaddexp.reduce(log_factors_CL, axis=0) - math.log(len(concentrations))
    return np.asarray(np.exp(-np.maximum(log_factor_L, 0)), dtype=np.float64)
