"""Position bias from a click log: how often each position is examined, relative to one of the first.

The same item is shown at different positions to different queries. If its cosine
and its rank by cosine are similar, its relevance is assumed to be the same, and a difference in clicks is due to
the position (intervention harvesting across queries; Agarwal et al., "Estimating Position Bias without
Intrusive Interventions", WSDM 2019). With clicks ∝ propensity of the position × relevance of the stratum, the
propensities are those of a Poisson regression with one constant per stratum. Conditional
on each stratum's clicks this is a multinomial logit without these constants, so it is consistent however few
impressions a stratum has.

Clicks within a stratum depend on each other, so strata are the unit of the standard errors. A place may be known
from a few of them only: the errors are then corrected for leverage (CR2), and intervals use Student's t with the
degrees of freedom that the place has (R. M. Bell and D. F. McCaffrey, "Bias Reduction in Standard Errors for Linear
Regression with Multi-Stage Samples", Survey Methodology 28, 2002).

Shapes: R impressions, S strata, K places (groups of positions).
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from immr.ranking.click_log import Bools, Ints

Values = npt.NDArray[np.float64]

PLACES = np.array([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 16, 21, 31])
"""First position of each place."""
_COSINE_GROUPS = 8
_RANK_GROUPS = np.array([1, 2, 3, 5, 8, 13, 21, 34, 55])
_STEPS, _TOLERANCE = 50, 1e-8
_FEW_DEGREES = 4.0  # of freedom; with fewer, errors are at least those of independent clicks
_LEVERAGE = 0.01  # of a stratum; below it, the correction is negligible
_FEW_CLICKS = 0.1  # of a place's mean; a place with fewer is not the reference
_FEWEST_DEGREES = 1.0  # with fewer, intervals are infinite
_ESTIMABLE = 0.9  # share of a variance that the strata can show


@dataclass(frozen=True)
class Propensities:
    """The propensity of each place relative to that of the place `first`; NaN where no clicks compare the two."""

    log_K: Values  # natural logarithm, 0 for the place `first`
    covariance_KK: Values  # of `log_K`, cluster-robust by stratum; NaN where `log_K` is
    degrees_K: Values  # of freedom of the errors; 0 for a place that only one stratum compares
    first: int = 0

    @property
    def relative_K(self) -> Values:
        """Examination relative to the place `first`."""
        return np.exp(self.log_K)

    @property
    def error_K(self) -> Values:
        """(K,) standard errors of `log_K`."""
        return np.sqrt(np.diag(self.covariance_KK))

    def reach_K(self, confidence: float = 0.95) -> Values:
        """(K,) half-width of the interval of `log_K`, by Student's t; infinite where there are too few strata."""
        from scipy.special import stdtrit

        enough_K = self.degrees_K >= _FEWEST_DEGREES
        quantile_K = stdtrit(np.where(enough_K, self.degrees_K, 1.0), (1 + confidence) / 2)
        reach_K: Values = np.where(enough_K, quantile_K * self.error_K, np.inf)
        reach_K[np.isnan(self.log_K)] = np.nan
        reach_K[self.first] = 0.0
        return reach_K

    @property
    def uncertainty_K(self) -> Values:
        """(K,) the standard error that would give the same 95 % interval with many strata."""
        return self.reach_K() / NormalDist().inv_cdf(0.975)

    def of(self, position_R: Ints) -> Values:
        """(R,) the propensity of each impression."""
        relative: Values = self.relative_K[places_of(position_R)]
        return relative


def places_of(position_R: Ints) -> Ints:
    """(R,) the place, from 0, of each position, from 1."""
    return np.searchsorted(PLACES, position_R, side="right") - 1


def strata(item_R: Ints, cosine_R: npt.NDArray[np.floating], first_rank_R: Ints) -> Ints:
    """(R,) impressions of one item with a similar cosine and rank by cosine share a stratum."""
    edges = np.quantile(cosine_R, np.linspace(0, 1, _COSINE_GROUPS + 1)[1:-1])
    keys = np.stack(
        [
            item_R,
            np.searchsorted(edges, cosine_R, side="right"),
            np.searchsorted(_RANK_GROUPS, first_rank_R, side="right"),
        ],
        axis=1,
    )
    _, stratum_R = np.unique(keys, axis=0, return_inverse=True)
    return stratum_R.astype(np.int64).ravel()


def estimate(stratum_R: Ints, position_R: Ints, clicked_R: Bools, first: int | None = None) -> Propensities:
    """Propensities of all places that clicks compare with each other.

    A finite estimate exists where clicks lead from one place to another and back: place k leads to place m if
    a stratum that showed k was clicked at m (L. R. Ford, "Solution of a Ranking Problem from Binary Comparisons",
    1957). Of several groups of such places, the one with the most clicks is estimated. It need not have position 1:
    some shops do not log their first slot.

    Args:
        stratum_R: see `strata`.
        position_R: from 1.
        clicked_R: of the same impressions.
        first: the reference place; by default the group's first with at least a tenth of its places' mean clicks.
    """
    place_R = places_of(position_R)
    shown_SK, clicked_SK = _counts(stratum_R, place_R, clicked_R)
    clicks_K = np.bincount(place_R, clicked_R, len(PLACES)).astype(np.float64)
    comparable_KK = _comparable(shown_SK, clicked_SK)
    if first is None:
        first = _first(comparable_KK, clicks_K, int(place_R.min()))
    used = np.flatnonzero(comparable_KK[first])
    log_K, degrees_K = np.full((2, len(PLACES)), np.nan)
    covariance_KK = np.full((len(PLACES), len(PLACES)), np.nan)
    log_K[first] = 0.0
    if len(used) > 1:
        used = np.array([first, *used[used != first]])
        clicked_S = clicked_SK[:, used].any(axis=1)
        log_U, covariance_UU, degrees_U = _fit(
            shown_SK[np.ix_(clicked_S, used)], clicked_SK[np.ix_(clicked_S, used)]
        )
        log_K[used], degrees_K[used] = log_U, degrees_U
        covariance_KK[np.ix_(used, used)] = covariance_UU
    covariance_KK[first, first] = 0.0
    return Propensities(log_K, covariance_KK, degrees_K, first)


def _counts(stratum_R: Ints, place_R: Ints, clicked_R: Bools) -> tuple[Values, Values]:
    """(S, K) impressions and clicks of the informative strata: with a click, and shown at two places or more."""
    count, width = int(stratum_R.max()) + 1, len(PLACES)
    clicks_S = np.bincount(stratum_R, clicked_R, count)
    clicked_rows = clicks_S[stratum_R] > 0
    kept_S, stratum_R = np.unique(stratum_R[clicked_rows], return_inverse=True)
    cell_R = stratum_R * width + place_R[clicked_rows]
    shape = (len(kept_S), width)
    shown_SK = np.bincount(cell_R, minlength=shape[0] * width).reshape(shape).astype(np.float64)
    clicked_SK = np.bincount(cell_R, clicked_R[clicked_rows], shape[0] * width).reshape(shape)
    compares_S = (shown_SK > 0).sum(axis=1) > 1
    return shown_SK[compares_S], clicked_SK[compares_S]


def _comparable(shown_SK: Values, clicked_SK: Values) -> Bools:
    """(K, K) whether clicks lead from one place to another and back, directly or through others."""
    leads_KK = (shown_SK > 0).astype(np.float64).T @ (clicked_SK > 0) + np.eye(len(PLACES)) > 0
    for _ in range(int(np.ceil(np.log2(len(PLACES))))):
        leads_KK = leads_KK.astype(np.float64) @ leads_KK > 0
    comparable_KK: Bools = leads_KK & leads_KK.T
    return comparable_KK


def _first(comparable_KK: Bools, clicks_K: Values, lowest: int) -> int:
    """The reference place; the lowest of the log if no two places can be compared."""
    of_several_K = comparable_KK.sum(axis=1) > 1
    if not of_several_K.any():
        return lowest
    group_K = comparable_KK[int(np.argmax(np.where(of_several_K, comparable_KK @ clicks_K, -1.0)))]
    return int(np.argmax(group_K & (clicks_K >= _FEW_CLICKS * clicks_K[group_K].mean())))


def _fit(shown_SU: Values, clicked_SU: Values) -> tuple[Values, Values, Values]:
    """Newton's method for the multinomial logit; the first coefficient is 0.

    Returns:
        Coefficients (U,), their covariance (U, U), and degrees of freedom (U,).
    """
    clicks_S1 = clicked_SU.sum(axis=1, keepdims=True)
    log_U = np.zeros(shown_SU.shape[1])
    for _ in range(_STEPS):
        expected_SU, hessian_VV = _moments(shown_SU, clicks_S1, log_U)
        gradient_V = (clicked_SU - expected_SU).sum(axis=0)[1:]
        step_V = np.linalg.solve(hessian_VV, gradient_V)
        log_U[1:] += np.clip(step_V, -1, 1)
        if np.abs(step_V).max() < _TOLERANCE:
            break
    expected_SU, hessian_VV = _moments(shown_SU, clicks_S1, log_U)
    covariance_UU, degrees_U = np.zeros((len(log_U), len(log_U))), np.full(len(log_U), np.inf)
    robust_VV, degrees_U[1:] = _robust(expected_SU, clicked_SU, clicks_S1, hessian_VV)
    # one stratum shows nothing of how its clicks depend on each other, and a few show too little
    missing_V = np.maximum(np.diag(np.linalg.inv(hessian_VV)) - np.diag(robust_VV), 0)
    covariance_UU[1:, 1:] = robust_VV + np.diag(missing_V * (degrees_U[1:] < _FEW_DEGREES))
    return log_U, covariance_UU, degrees_U


def _robust(
    expected_SU: Values, clicked_SU: Values, clicks_S1: Values, hessian_VV: Values
) -> tuple[Values, Values]:
    """CR2 covariance (V, V), and degrees of freedom (V,) as if clicks were independent (Bell and McCaffrey).

    In coordinates in which the Hessian is the identity, a stratum's part of it is its leverage.
    """
    inverse_VV, expected_SV = np.linalg.inv(hessian_VV), expected_SU[:, 1:]
    root_VV = np.linalg.cholesky(inverse_VV)
    residual_SV = (clicked_SU - expected_SU)[:, 1:] @ root_VV
    trace_S = expected_SV @ np.diag(inverse_VV)
    trace_S -= ((expected_SV @ inverse_VV) * expected_SV).sum(axis=1) / clicks_S1[:, 0]
    large = np.flatnonzero(trace_S > _LEVERAGE)
    scale_LVV, leverage_LVV = _corrections(expected_SU[large], clicks_S1[large], root_VV)
    residual_SV[large] = np.einsum("lvw,lw->lv", scale_LVV, residual_SV[large])
    degrees_V = np.zeros(len(root_VV))
    for coefficient, direction_V in enumerate(root_VV):
        moved_SV = _times_leverage(expected_SU, clicks_S1, root_VV, direction_V[:, None])[..., 0]
        own_S = moved_SV @ direction_V
        scaled_LV = scale_LVV @ direction_V
        moved_SV[large] = np.einsum("lvw,lw->lv", leverage_LVV, scaled_LV)
        own_S[large] = (moved_SV[large] * scaled_LV).sum(axis=1)
        lost_S = np.square(moved_SV).sum(axis=1)
        mean = float((own_S - lost_S).sum())
        square = float((own_S**2 - 2 * own_S * lost_S).sum() + np.square(moved_SV.T @ moved_SV).sum())
        if mean > _ESTIMABLE * float(direction_V @ direction_V):
            degrees_V[coefficient] = mean**2 / square
    return root_VV @ (residual_SV.T @ residual_SV) @ root_VV.T, degrees_V


def _times_leverage(expected_SU: Values, clicks_S1: Values, root_VV: Values, vectors_VW: Values) -> Values:
    """(S, V, W) each stratum's leverage times some vectors."""
    moved_VW = root_VV @ vectors_VW
    expected_SV = expected_SU[:, 1:]
    mean_SW = expected_SV @ moved_VW / clicks_S1
    centred_SVW = expected_SV[:, :, None] * (moved_VW[None] - mean_SW[:, None])
    found: Values = np.einsum("vx,svw->sxw", root_VV, centred_SVW)
    return found


def _corrections(expected_LU: Values, clicks_L1: Values, root_VV: Values) -> tuple[Values, Values]:
    """(L, V, V) the inverse root of 1 − leverage, and the leverage; 0 in directions that only one stratum knows."""
    leverage_LVV = _times_leverage(expected_LU, clicks_L1, root_VV, np.eye(len(root_VV)))
    share_LV, axes_LVV = np.linalg.eigh((leverage_LVV + leverage_LVV.transpose(0, 2, 1)) / 2)
    inverse_LV = np.where(share_LV < 1 - 1e-6, 1 / np.sqrt(np.maximum(1 - share_LV, 1e-6)), 0)
    return (axes_LVV * inverse_LV[:, None]) @ axes_LVV.transpose(0, 2, 1), leverage_LVV


def _moments(shown_SU: Values, clicks_S1: Values, log_U: Values) -> tuple[Values, Values]:
    """Expected clicks of each cell, and the Hessian without the first coefficient."""
    weight_SU = shown_SU * np.exp(log_U)
    share_SU = weight_SU / weight_SU.sum(axis=1, keepdims=True).clip(1e-300)
    expected_SU = clicks_S1 * share_SU
    hessian_UU = np.diag(expected_SU.sum(axis=0)) - share_SU.T @ expected_SU
    ridge = 1e-9 * np.eye(len(log_U) - 1)
    return expected_SU, hessian_UU[1:, 1:] + ridge
