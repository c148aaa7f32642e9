"""The rule that labels a hit exact, similar or none. No heavy imports, because a Bento applies it.

Shapes: D embedding size, T texture size, P size of what the domain compares: a texture, or a part of an embedding.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from immr.storage.atomic import write_atomically
from immr.types import CountOrZero, FloatArray, Match, ShareAboveZero

MATCH_RULE = "match_rule.npz"
"""File name of a rule, attached to a version's run and packaged with the version."""

_TEXTURES = -1  # in a file, for `begin`
_STRONGEST_FIRST: tuple[Match, ...] = ("exact", "similar", "none")


@dataclass(frozen=True)
class MatchRecipe:
    """How often the rule may err on photos like the held-out ones that calibrate it (ours).

    exact_recall: least share of correct first hits that are called exact.
    similar_recall: least share of photos of missing, untrained items whose first hit is similar enough.
    domain_recall: least share of the shop's photos that are not taken for something else.
    min_photos: with fewer held-out photos with a correct first hit, or fewer training photos, there is no rule.
    """

    exact_recall: ShareAboveZero = 0.95
    similar_recall: ShareAboveZero = 0.95
    domain_recall: ShareAboveZero = 0.98
    min_photos: CountOrZero = 50


@dataclass(frozen=True, eq=False)
class PhotoDomain:
    """Where the shop's photos lie: an ellipsoid around the mean of their textures, or of their embeddings."""

    begin: int | None  # of the P dimensions within an embedding; None for textures
    mean_P: FloatArray
    whitener_PP: FloatArray  # a root of the inverse covariance
    farthest: float  # Mahalanobis distance; photos beyond it show something else

    def distance(self, row: FloatArray) -> float:
        """Mahalanobis distance from the mean, of a texture (T,) or an embedding (D,)."""
        part_P = row if self.begin is None else _unit(row[self.begin : self.begin + len(self.mean_P)])
        return float(np.linalg.norm(self.whitener_PP @ (part_P - self.mean_P)))

    def contains(self, embedding_D: FloatArray, texture_T: FloatArray | None) -> bool:
        """Whether a photo is within the domain of the shop's photos; True if it has no texture to compare."""
        row = embedding_D if self.begin is not None else texture_T
        return row is None or self.distance(row) <= self.farthest


def _unit(part_P: FloatArray) -> FloatArray:
    unit_P: FloatArray = part_P / max(float(np.linalg.norm(part_P)), 1e-6)
    return unit_P


@dataclass(frozen=True, eq=False)
class MatchRule:
    """Thresholds for exact and similar hits.

    A hit is similar by its cosine, and exact by its closeness: the cosine of the learned part of the embeddings, if
    that part tells items apart better. An out-of-domain photo has no similar hits, and exact ones only from
    `certain_from`: that close to an item, it shows the item, in strange light or as a catalogue picture (ours).
    """

    exact_from: float  # of the closeness
    similar_from: float  # of the cosine
    domain: PhotoDomain
    certain_from: float = math.inf  # of the closeness
    learned_dim: int = 0  # size of the part that the closeness compares, from the first dimension; 0 is all

    def match(self, cosine: float, closeness: float, elsewhere: bool = False) -> Match:
        """What to call a hit of a photo, which the domain contains unless it is `elsewhere`."""
        if closeness >= (self.certain_from if elsewhere else self.exact_from):
            return "exact"
        return "none" if elsewhere or cosine < self.similar_from else "similar"

    def closeness(self, embedding_D: FloatArray, pictures_PD: FloatArray) -> float:
        """Of a photo to the picture of an item that it resembles most."""
        return closeness(embedding_D, pictures_PD[(pictures_PD @ embedding_D).argmax()], self.learned_dim)

    def write(self, path: Path) -> None:
        """Write the rule as a NumPy archive."""
        content = io.BytesIO()
        np.savez(
            content,
            thresholds=np.array(
                [self.exact_from, self.similar_from, self.domain.farthest, self.certain_from]
            ),
            begin=_TEXTURES if self.domain.begin is None else self.domain.begin,
            learned_dim=self.learned_dim,
            mean=self.domain.mean_P,
            whitener=self.domain.whitener_PP,
        )
        write_atomically(path, content.getvalue())

    @classmethod
    def read(cls, path: Path) -> MatchRule | None:
        """Read what `write` wrote; None if there is no file."""
        if not path.is_file():
            return None
        with np.load(path) as fields:
            exact_from, similar_from, farthest, *certain = fields["thresholds"].tolist()
            begin = int(fields["begin"])
            domain = PhotoDomain(
                None if begin == _TEXTURES else begin, fields["mean"], fields["whitener"], farthest
            )
            # rules of earlier releases lack these
            learned_dim = int(fields["learned_dim"]) if "learned_dim" in fields else 0
        certain_from = certain[0] if certain else math.inf
        return cls(exact_from, similar_from, domain, certain_from, learned_dim)


def closeness(one_D: FloatArray, other_D: FloatArray, learned_dim: int) -> float:
    """The cosine of the first `learned_dim` dimensions of two unit vectors, or of all of them for 0."""
    if not learned_dim:
        return float(one_D @ other_D)
    return float(_unit(one_D[:learned_dim]) @ _unit(other_D[:learned_dim]))


def strongest(matches: Iterable[Match | None]) -> Match | None:
    """exact before similar before none; None if no hit has a match."""
    found = {match for match in matches if match is not None}
    return next((match for match in _STRONGEST_FIRST if match in found), None)
