"""First-stage results for each query of a log, by exact search over the catalogue.

Shapes: R impressions, Q queries, N items, P pictures of all items, D embedding size, H = the head.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from immr.evaluation.exact_search import best_picture
from immr.model.documents import PictureEmbeddings
from immr.ranking.click_log import Ints
from immr.search.signals import HEAD
from immr.types import FloatArray

_MAX_CELLS = 8_000_000  # queries × items scored at a time
_SAME = 0.999  # a photo's cosine with itself, by two exports of an encoder and in half precision


@dataclass(frozen=True)
class FirstStage:
    """Cosines and ranks by cosine."""

    cosine_R: FloatArray
    rank_R: Ints  # from 1
    head_QH: Ints  # items, best first
    head_cosine_QH: FloatArray


def first_stage(
    queries_QD: FloatArray,
    items: PictureEmbeddings,
    query_R: Ints,
    item_R: Ints,
    max_cells: int = _MAX_CELLS,
) -> FirstStage:
    """Cosine and rank of each impression, and the head of each query.

    Args:
        queries_QD: unit rows.
        items: of the catalogue; an item's best row counts. A class photo does not count for itself.
        query_R: sorted.
        item_R: what was shown.
        max_cells: queries × items scored at a time, which limits memory.
    """
    block = max(1, max_cells // len(items.rows_PD))
    parts = []
    for start in range(0, len(queries_QD), block):
        low, high = np.searchsorted(query_R, [start, start + block])
        block_BD = queries_QD[start : start + block]
        cosine_BP = block_BD @ items.rows_PD.T
        if items.photo_P is not None and items.photos_KD is not None:
            is_photo_P, same_BK = items.photo_P >= 0, block_BD @ items.photos_KD.T > _SAME
            cosine_BP[:, is_photo_P] = np.where(
                same_BK[:, items.photo_P[is_photo_P]], -1, cosine_BP[:, is_photo_P]
            )
        cosine_BN = best_picture(cosine_BP, items.pictures_N)
        parts.append(_of_block(cosine_BN, query_R[low:high] - start, item_R[low:high]))
    return FirstStage(
        cosine_R=np.concatenate([part.cosine_R for part in parts]),
        rank_R=np.concatenate([part.rank_R for part in parts]),
        head_QH=np.concatenate([part.head_QH for part in parts]),
        head_cosine_QH=np.concatenate([part.head_cosine_QH for part in parts]),
    )


def _of_block(cosine_BN: FloatArray, query_R: Ints, item_R: Ints) -> FirstStage:
    size = min(HEAD, cosine_BN.shape[1])
    head_BH = np.argpartition(-cosine_BN, size - 1, axis=1)[:, :size]
    head_cosine_BH = np.take_along_axis(cosine_BN, head_BH, axis=1)
    order = np.argsort(-head_cosine_BH, axis=1, kind="stable")
    cosine_R = cosine_BN[query_R, item_R]
    rank_R = np.empty(len(query_R), dtype=np.int64)
    for query in range(len(cosine_BN)):
        rows = slice(*np.searchsorted(query_R, [query, query + 1]))
        ahead = cosine_BN[query][None, :] > cosine_R[rows][:, None]
        rank_R[rows] = 1 + ahead.sum(axis=1)
    return FirstStage(
        cosine_R=cosine_R,
        rank_R=rank_R,
        head_QH=np.take_along_axis(head_BH, order, axis=1).astype(np.int64),
        head_cosine_QH=np.take_along_axis(head_cosine_BH, order, axis=1),
    )
