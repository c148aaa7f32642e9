"""Calibrates the rule for matches on held-out photos.

Every threshold is a conformal quantile (Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World",
2005), so its recall holds for new photos like the calibration photos, whatever their distribution. The domain
uses the Mahalanobis distance of Lee et al. (arXiv 1807.03888) with one class; textures (`immr.model.texture`) and
calibrating the threshold on classes that were not used to fit it are ours.

Shapes: Q queries, N documents, R training photos, D embedding size, T texture size, P size of what the domain
compares.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from immr.evaluation import metrics
from immr.evaluation.bootstrap import Values
from immr.evaluation.calibration import ranking_quality
from immr.evaluation.exact_search import MAX_CELLS
from immr.evaluation.matches.rule import MatchRecipe, MatchRule, PhotoDomain, closeness
from immr.evaluation.metrics import BoolArray, IntArray
from immr.types import FloatArray

_GROUPS = 5  # of classes: the threshold of a group comes from a domain without its photos
MOST_PHOTOS = 5_000  # whose hits are found; thresholds of more would not be more precise
_SHRINKAGE = 0.2  # of the covariance towards a sphere, as training photos are few
_SMALLEST_SCALE = 1e-6  # of a dimension that is the same in all photos
_ROUNDING = 1e-9  # (1 − 0.9) × 20 is a little less than 2


@dataclass(frozen=True)
class LabelledEmbeddings:
    """Unit rows (N, D) and the class of each; photos have textures, unless the version's encoder computes none."""

    rows_ND: FloatArray
    classes_N: IntArray
    textures_NT: FloatArray | None = None

    def some(self, mask_N: BoolArray) -> LabelledEmbeddings:
        """The rows where the mask is true."""
        textures_NT = None if self.textures_NT is None else self.textures_NT[mask_N]
        return LabelledEmbeddings(self.rows_ND[mask_N], self.classes_N[mask_N], textures_NT)


def calibrate(
    photos: LabelledEmbeddings,
    documents: LabelledEmbeddings,
    training_photos: LabelledEmbeddings,
    recipe: MatchRecipe,
    begin: int = 0,
) -> MatchRule | None:
    """The rule of a version; None if there are too few photos.

    Args:
        photos: held out; of many, `MOST_PHOTOS` evenly spaced ones are used.
        documents: the catalogue.
        training_photos: to fit the domain; of any classes.
        recipe: the recalls to keep.
        begin: where the plain part of an embedding begins; 0 if it is in one part. Photos without textures are in the
            domain by their plain part, where new items stay closer to known ones, because it was not trained on the
            known classes. Hits are exact by their learned part, if it ranks correct hits higher above those of photos
            whose item is missing than the whole embedding does.
    """
    step = -(-len(photos.classes_N) // MOST_PHOTOS) or 1
    photos = photos.some(np.arange(len(photos.classes_N)) % step == 0)
    found = first_hits(photos, documents, begin)
    missing = first_hits(photos, documents, begin, without_own=True)
    right_Q = found.right_Q
    enough = min(int(right_Q.sum()), len(training_photos.classes_N)) >= max(recipe.min_photos, 1)
    if not enough or len(np.unique(photos.classes_N)) < _GROUPS:
        return None
    by_learned = begin > 0 and _order(found.learned_Q, missing.learned_Q, right_Q) > _order(
        found.cosine_Q, missing.cosine_Q, right_Q
    )
    closeness_Q = found.learned_Q if by_learned else found.cosine_Q
    textured = photos.textures_NT is not None and training_photos.textures_NT is not None
    domain = _domain(photos, training_photos, recipe.domain_recall, None if textured else begin)
    return MatchRule(
        exact_from=lower_threshold(closeness_Q[right_Q], recipe.exact_recall),
        similar_from=lower_threshold(missing.cosine_Q, recipe.similar_recall),
        domain=domain,
        certain_from=float(np.median(closeness_Q[right_Q])),
        learned_dim=begin if by_learned else 0,
    )


@dataclass(frozen=True)
class FirstHits:
    """Each photo's first hit by exact search."""

    cosine_Q: Values
    learned_Q: Values  # cosine of the learned part of the embeddings
    right_Q: BoolArray  # whether the hit has the photo's class

    def closeness_Q(self, rule: MatchRule) -> Values:
        """See `MatchRule`."""
        return self.learned_Q if rule.learned_dim else self.cosine_Q


def first_hits(
    photos: LabelledEmbeddings, documents: LabelledEmbeddings, begin: int = 0, without_own: bool = False
) -> FirstHits:
    """The first hits of all photos.

    Args:
        photos: the queries.
        documents: the catalogue.
        begin: where the learned part of an embedding ends and the plain part begins; 0 if it is in one part.
        without_own: search for each photo in a catalogue without the documents of its class.
    """
    cosines, rows, right = [], [], []
    block = max(1, MAX_CELLS // len(documents.classes_N))
    for start in range(0, len(photos.classes_N), block):
        own_BN = metrics.relevance(photos.classes_N[start : start + block], documents.classes_N)
        scores_BN = metrics.cosine_scores(photos.rows_ND[start : start + block], documents.rows_ND)
        if without_own:
            scores_BN[own_BN] = -1.0
        first_B = scores_BN.argmax(axis=1)
        rows_B = np.arange(len(first_B))
        cosines.append(scores_BN[rows_B, first_B])
        right.append(own_BN[rows_B, first_B])
        rows.append(first_B)
    pairs = zip(photos.rows_ND, documents.rows_ND[np.concatenate(rows)], strict=True)
    learned_Q = np.array([closeness(*pair, begin) for pair in pairs])
    return FirstHits(np.concatenate(cosines).astype(np.float64), learned_Q, np.concatenate(right))


def _order(found_Q: Values, missing_Q: Values, right_Q: BoolArray) -> float:
    """Probability that a correct first hit is closer than the first hit of a photo whose item is missing."""
    both = np.concatenate([found_Q[right_Q], missing_Q])
    return ranking_quality(both, np.arange(len(both)) < right_Q.sum())


def lower_threshold(scores_N: Values, recall: float) -> float:
    """The largest threshold that a new score reaches with a probability of at least `recall`."""
    below = math.floor((1 - recall) * (len(scores_N) + 1) + _ROUNDING)
    return float(np.sort(scores_N)[below - 1]) if below else -math.inf


def _domain(
    photos: LabelledEmbeddings, training_photos: LabelledEmbeddings, recall: float, begin: int | None
) -> PhotoDomain:
    groups = np.array_split(np.random.default_rng(0).permutation(np.unique(photos.classes_N)), _GROUPS)
    distances: list[float] = []
    for classes in groups:
        others = training_photos.some(~np.isin(training_photos.classes_N, classes))
        ellipsoid = _ellipsoid(_compared(others, begin), begin)
        new = photos.some(np.isin(photos.classes_N, classes))
        distances += [ellipsoid.distance(row) for row in _compared(new, begin)]
    whole = _ellipsoid(_compared(training_photos, begin), begin)
    farthest = -lower_threshold(-np.array(distances), recall)
    return PhotoDomain(begin, whole.mean_P, whole.whitener_PP, farthest)


def _compared(photos: LabelledEmbeddings, begin: int | None) -> FloatArray:
    """What `PhotoDomain.distance` takes: textures (N, T) or embeddings (N, D)."""
    return photos.rows_ND if begin is not None or photos.textures_NT is None else photos.textures_NT


def _ellipsoid(rows_R: FloatArray, begin: int | None) -> PhotoDomain:
    """Mean and shrunken covariance of photos, without a threshold.

    The covariance shrinks towards a sphere, for textures in units of each dimension's deviation.
    """
    part_RP = rows_R if begin is None else metrics.unit_rows(rows_R[:, begin:])
    scale_P = part_RP.std(axis=0, dtype=np.float64) if begin is None else np.ones(part_RP.shape[1])
    scale_P = np.maximum(scale_P, _SMALLEST_SCALE)
    covariance_PP = np.cov((part_RP / scale_P).T, dtype=np.float64)
    sphere_PP = np.trace(covariance_PP) / len(covariance_PP) * np.eye(len(covariance_PP))
    shrunken_PP = (1 - _SHRINKAGE) * covariance_PP + _SHRINKAGE * sphere_PP
    whitener_PP = np.linalg.cholesky(np.linalg.inv(shrunken_PP)).T / scale_P
    return PhotoDomain(begin, part_RP.mean(axis=0), whitener_PP.astype(np.float32), math.inf)
