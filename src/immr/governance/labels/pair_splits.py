"""Two classes whose labels are swapped nearly half of the time: which photos belong together? (ours)

At a swap rate ε, n labels tell as much as n (1 − 2ε)² right ones. Of 60 labels at 41 %, two are left, so class
centres learned from them point in a direction of chance. Photos of a pair are therefore also split by appearance
alone, along the principal components of their whitened features. The catalogue's pictures, which no click has
touched, tell whether a split separates the two classes and which side is which: its sides differ as the two pictures
do, and not as pictures of other classes do. A split that explains labels and pictures better than the scores do
overrules the scores.

How often each kind of split is right, at which rates labels are wrong, and how much pictures tell, is estimated over
all pairs of the log (empirical Bayes). So pictures that tell nothing change nothing.

Shapes: N photos, M photos of a pair, F features, V components, H hypotheses, G pairs of rates, P pairs, R pictures,
X differences between pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from immr.governance.labels.class_scores import Bools, Doubles, Ints
from immr.types import FloatArray

COMPONENTS = 3
MOST_PHOTOS = 512  # of a pair; with more, labels tell enough
MOST_ROWS = 40_000  # photos of all pairs; first come pairs whose margins follow their labels least
_CLEAR = 3.0  # standard deviations between the margins of the two labels: beyond that, labels are right
_FEWEST_PICTURES = 8
_CHANCE_PICTURES = 60  # differences between pictures of other classes
_SAMPLED = 20_000
_ROUNDS, _EM_STEPS, _WEIGHT_STEPS = 4, 12, 60
_RATES = (np.arange(9) + 0.5) / 20  # of wrong labels on one side; nearer to a half, nothing can be told
_CERTAIN = 0.95  # of a photo's side, when a split starts
_PICTURES_TELL = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0)  # mean of z where a split is right

Pictures = Callable[
    [Ints], FloatArray
]  # classes → (R, F) features; a row of NaN for a class without a picture


@dataclass(frozen=True)
class Explanations:
    """What may explain a pair's labels: nothing (all are right), their margin, or a component, either way round."""

    evidence_HG: Doubles  # log-likelihood of the labels at each pair of rates
    z_H: Doubles  # how much a split's sides differ as the pictures do, in standard deviations of chance
    side_HM: Doubles  # probability that a photo is on the first class's side
    first_M: Bools  # labels


@dataclass(frozen=True)
class PairRows:
    """(pair, photo) rows: whether the label is the pair's first class, and its score − that of the second."""

    pairs_P2: Ints
    pair_M: Ints
    photo_M: Ints
    first_M: Bools
    margin_M: Doubles


@dataclass(frozen=True)
class Appearance:
    """Photos and catalogue pictures, to split pairs of classes by."""

    x_NF: FloatArray  # power-normalised
    fold_N: Ints
    pictures: Pictures  # power-normalised as well
    ridge: float

    def overruled(self, rows: PairRows, candidate_P: Bools) -> tuple[Doubles, Bools]:
        """(M,) probability of the pair's first class, and (P,) whether a split explains the pair better than labels.

        Args:
            rows: the pairs' photos.
            candidate_P: pairs with enough photos of each label.
        """
        right_M, overruled_P = np.zeros(len(rows.pair_M)), np.zeros(len(rows.pairs_P2), bool)
        chosen = _least_clear(rows, candidate_P)
        classes = np.unique(rows.pairs_P2[chosen])
        if len(classes) < _FEWEST_PICTURES:
            return right_M, overruled_P
        pictures_RF = self.pictures(classes)
        whiten_FF = _whitening(self.x_NF, self.ridge)
        others_XF = _differences(pictures_RF[np.isfinite(pictures_RF).all(axis=1)])
        if len(others_XF) < _CHANCE_PICTURES:
            return right_M, overruled_P
        chance_XF: Doubles = others_XF @ whiten_FF
        order = np.argsort(rows.pair_M, kind="stable")
        ends = np.searchsorted(rows.pair_M[order], np.arange(len(rows.pairs_P2) + 1))
        found: list[tuple[int, Ints, Explanations]] = []
        for pair in chosen.tolist():
            own_RF = pictures_RF[np.searchsorted(classes, rows.pairs_P2[pair])]
            if not np.isfinite(own_RF).all():
                continue
            at = order[ends[pair] : ends[pair + 1]]
            photos = rows.photo_M[at]
            z_MF = self.x_NF[photos] @ whiten_FF
            z_MF /= np.maximum(np.linalg.norm(z_MF, axis=1, keepdims=True), 1e-12)
            towards_XF = np.concatenate([(own_RF[:1] - own_RF[1:]) @ whiten_FF, chance_XF])
            one = explained(z_MF, rows.first_M[at], self.fold_N[photos], rows.margin_M[at], towards_XF)
            found.append((pair, at, one))
        if found:
            weights_PHG = weighed([one for _, _, one in found])
            for (pair, at, one), weight_HG in zip(found, weights_PHG, strict=True):
                overruled_P[pair] = weight_HG[2:].sum() > 0.5
                right_M[at] = first_is_right(one, weight_HG)
        return right_M, overruled_P


def explained(
    z_MF: Doubles, first_M: Bools, fold_M: Ints, margin_M: Doubles, towards_XF: Doubles
) -> Explanations:
    """The hypotheses about one pair.

    Args:
        z_MF: whitened features.
        first_M: whether a photo's label is the pair's first class.
        fold_M: photos of one fold do not confirm each other.
        margin_M: out-of-fold score of the first class − score of the second.
        towards_XF: whitened first picture − second, then differences between other pictures.
    """
    z_MF = (z_MF - z_MF.mean(axis=0)).astype(np.float64)
    gram_MM = z_MF @ z_MF.T
    components_VM = np.linalg.eigh(gram_MM)[1][:, : -COMPONENTS - 1 : -1].T
    side_VM = _across_folds(gram_MM, fold_M, np.where(components_VM > 0, _CERTAIN, 1 - _CERTAIN))
    along_XM = towards_XF @ z_MF.T
    high_VM = side_VM / np.maximum(side_VM.sum(axis=1, keepdims=True), 1e-9)
    low_VM = (1 - side_VM) / np.maximum((1 - side_VM).sum(axis=1, keepdims=True), 1e-9)
    differ_VX = (high_VM - low_VM) @ along_XM.T
    z_V = differ_VX[:, 0] / np.maximum(differ_VX[:, 1:].std(axis=1), 1e-12)
    by_label_1M = _sides(margin_M[None], np.where(first_M, _CERTAIN, 1 - _CERTAIN)[None])
    side_HM = np.concatenate([first_M[None], by_label_1M, side_VM, 1 - side_VM])
    share = np.clip(first_M.mean(), 1e-9, 1 - 1e-9)
    evidence_HG = np.stack([np.log(sum(_joint(side_M, first_M))).sum(axis=1) for side_M in side_HM])
    evidence_HG[0] = np.log(np.where(first_M, share, 1 - share)).sum()
    return Explanations(evidence_HG, np.concatenate([[0.0, 0.0], z_V, -z_V]), side_HM, first_M)


def weighed(found: Sequence[Explanations]) -> Doubles:
    """(P, H, G) probability of each hypothesis and rates; how common they are is estimated over all pairs."""
    evidence_PHG = np.stack([one.evidence_HG for one in found])
    z_PH = np.stack([one.z_H for one in found])
    best: tuple[float, Doubles] = (-np.inf, evidence_PHG)
    for tell in _PICTURES_TELL:
        pictures_PH = tell * z_PH - tell**2 / 2
        pictures_PH[:, :2] = 0
        likelihood, posterior_PHG = _common(evidence_PHG + pictures_PH[:, :, None])
        if likelihood > best[0] + 1e-6:
            best = (likelihood, posterior_PHG)
    return best[1]


def first_is_right(one: Explanations, weight_HG: Doubles) -> Doubles:
    """(M,) probability that a photo is of the pair's first class; where nothing explains labels, as labelled."""
    right_M: Doubles = np.where(one.first_M, weight_HG[0].sum(), 0.0)
    for side_M, weight_G in zip(one.side_HM[1:], weight_HG[1:], strict=True):
        own_GM, rest_GM = _joint(side_M, one.first_M)
        right_M += weight_G @ (own_GM / (own_GM + rest_GM))
    return right_M


def _common(evidence_PHG: Doubles) -> tuple[float, Doubles]:
    """Log-likelihood and (P, H, G) posterior, with the shares of hypotheses and of rates that fit all pairs best."""
    rates = len(_RATES)
    kind_H = np.array(
        [0, 1, *range(2, 2 + COMPONENTS), *range(2, 2 + COMPONENTS)]
    )  # either way round: one kind
    ways_H = np.bincount(kind_H)[kind_H]
    share_H = 1 / np.where(kind_H < 2, 4, 2 * COMPONENTS * ways_H)
    rates_HG = np.full((len(kind_H), rates**2), 1 / rates**2)
    top_P11 = evidence_PHG.max(axis=(1, 2), keepdims=True)
    relative_PHG = np.exp(evidence_PHG - top_P11)
    for _ in range(_WEIGHT_STEPS):
        posterior_PHG = relative_PHG * (share_H[:, None] * rates_HG)
        sum_P11 = posterior_PHG.sum(axis=(1, 2), keepdims=True)
        posterior_PHG /= sum_P11
        total_HG = posterior_PHG.sum(axis=0)
        common_K = np.bincount(kind_H, total_HG.sum(axis=1))
        share_H = common_K[kind_H] / ways_H + 1 / len(kind_H)
        share_H /= share_H.sum()
        for hypotheses in (slice(1, 2), slice(2, None)):
            grid = total_HG[hypotheses].sum(axis=0).reshape(rates, rates)
            rates_G = (grid + grid.T).ravel() / 2 + 1 / rates**2
            rates_HG[hypotheses] = rates_G / rates_G.sum()
    return float((np.log(sum_P11) + top_P11).sum()), posterior_PHG


def _across_folds(gram_MM: Doubles, fold_M: Ints, side_VM: Doubles) -> Doubles:
    """(V, M) probability of the first side: centres of the other folds, then two normal distributions, in turn."""
    outside_LM = fold_M != np.unique(fold_M)[:, None]
    at_M, rows = np.searchsorted(np.unique(fold_M), fold_M), np.arange(len(fold_M))
    for _ in range(_ROUNDS):
        high_VLM, low_VLM = side_VM[:, None] * outside_LM, (1 - side_VM)[:, None] * outside_LM
        high_VLM = high_VLM / np.maximum(high_VLM.sum(axis=2, keepdims=True), 1e-9)
        low_VLM = low_VLM / np.maximum(low_VLM.sum(axis=2, keepdims=True), 1e-9)
        along_VLM = (high_VLM - low_VLM) @ gram_MM
        length_VL1 = np.sqrt(np.maximum((along_VLM * (high_VLM - low_VLM)).sum(axis=2, keepdims=True), 1e-12))
        middle_VL1 = (along_VLM * (high_VLM + low_VLM)).sum(axis=2, keepdims=True) / 2
        margin_VLM = (along_VLM - middle_VL1) / length_VL1
        side_VM = _sides(margin_VLM[:, at_M, rows], side_VM)
    return side_VM


def _sides(margin_VM: Doubles, side_VM: Doubles) -> Doubles:
    """(V, M) probability of the first side: two normal distributions of one variance, by EM. Labels are not used."""
    for _ in range(_EM_STEPS):
        side_VM = np.clip(side_VM, 1e-6, 1 - 1e-6)
        weight_V1 = side_VM.mean(axis=1, keepdims=True)
        high_V1 = (side_VM * margin_VM).mean(axis=1, keepdims=True) / weight_V1
        low_V1 = ((1 - side_VM) * margin_VM).mean(axis=1, keepdims=True) / (1 - weight_V1)
        off_VM = side_VM * np.square(margin_VM - high_V1) + (1 - side_VM) * np.square(margin_VM - low_V1)
        variance_V1 = np.maximum(off_VM.mean(axis=1, keepdims=True), 1e-12)
        odds_VM = (np.square(margin_VM - low_V1) - np.square(margin_VM - high_V1)) / (2 * variance_V1)
        odds_VM += np.log(weight_V1 / (1 - weight_V1))
        side_VM = 1 / (1 + np.exp(-np.clip(odds_VM, -30, 30)))
    return side_VM


def _joint(side_M: Doubles, first_M: Bools) -> tuple[Doubles, Doubles]:
    """(G, M) probability of the label and the first class, and of the label and the second, at all rates."""
    loses_G1, gains_G1 = (rates.reshape(-1, 1) for rates in np.meshgrid(_RATES, _RATES, indexing="ij"))
    own_GM = side_M * np.where(first_M, 1 - loses_G1, loses_G1)
    return own_GM + 1e-12, (1 - side_M) * np.where(first_M, gains_G1, 1 - gains_G1)


def _least_clear(rows: PairRows, candidate_P: Bools) -> Ints:
    """Candidates that are small and unclear enough: those whose margins follow the labels least, in order."""
    pairs = len(candidate_P)
    label_M = 2 * rows.pair_M + rows.first_M
    count_L = np.maximum(np.bincount(label_M, minlength=2 * pairs), 1)
    mean_L = np.bincount(label_M, rows.margin_M, 2 * pairs) / count_L
    count_P = count_L[::2] + count_L[1::2]
    square_P = np.bincount(rows.pair_M, np.square(rows.margin_M - mean_L[label_M]), pairs)
    clear_P = (mean_L[1::2] - mean_L[::2]) / np.sqrt(np.maximum(square_P / count_P, 1e-12))
    small = np.flatnonzero(candidate_P & (count_P <= MOST_PHOTOS) & (clear_P < _CLEAR))
    order = small[np.argsort(clear_P[small].round(4), kind="stable")]
    found: Ints = np.sort(order[np.cumsum(count_P[order]) <= MOST_ROWS])
    return found


def _differences(pictures_RF: FloatArray) -> FloatArray:
    """(X, F) differences between pictures drawn at random."""
    rng, count = np.random.default_rng(0), len(pictures_RF)
    if count < _FEWEST_PICTURES:
        return pictures_RF[:0]
    one = rng.integers(0, count, _CHANCE_PICTURES)
    other = (one + rng.integers(1, count, _CHANCE_PICTURES)) % count
    found: FloatArray = pictures_RF[one] - pictures_RF[other]
    return found


def _whitening(x_NF: FloatArray, ridge: float) -> Doubles:
    """(F, F) from features to features with a ridge over the covariance of all photos."""
    from scipy.linalg import solve_triangular

    sample_SF = x_NF[:: -(-len(x_NF) // _SAMPLED)].astype(np.float64)
    sample_SF -= sample_SF.mean(axis=0)
    spread_FF = sample_SF.T @ sample_SF / len(sample_SF)
    raised = ridge * max(float(np.trace(spread_FF)) / len(spread_FF), 1e-12)
    root_FF = np.linalg.cholesky(spread_FF + raised * np.eye(len(spread_FF)))
    whiten_FF: Doubles = solve_triangular(root_FF, np.eye(len(root_FF)), lower=True).T
    return whiten_FF
