"""Frozen features of many pictures, read from the cache when they are needed.

Shapes: N pictures, V views, B pictures of a batch, F features, P patches.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import numpy as np
import torch
from torch import Tensor

from immr.storage.stored_arrays import StoredArrays

_COPIED_ROWS = 1024
_SAMPLED_ROWS = 65_536


class StoredFeatures:
    """Features (N, V, F), or (N, V, P, F), that are indexed as a tensor on the CPU is. Missing ones are zeros.

    They stay in the cache's files, so a training on a million pictures needs no copy of them.
    """

    device = torch.device("cpu")

    def __init__(self, views: Sequence[StoredArrays], row_shape: tuple[int, ...]) -> None:
        """Of each view, the arrays of all pictures; `row_shape` is (F,) or (P, F)."""
        self._views, self._row_shape = views, row_shape
        self.shape = (len(views[0].there_N), len(views), *row_shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, place: tuple[Tensor, Tensor]) -> Tensor:
        """Features in float16 of some pictures in some views, whose numbers have the same shape."""
        rows, views = np.broadcast_arrays(*(numbers.numpy() for numbers in place))
        out = np.zeros((rows.size, *self._row_shape), np.float16)
        for start in range(0, rows.size, _COPIED_ROWS):
            part = slice(start, start + _COPIED_ROWS)
            self.read_ahead(torch.from_numpy(rows.flat[part]), torch.from_numpy(views.flat[part]))
            for at, row, view in zip(count(start), rows.flat[part], views.flat[part]):
                if self._views[view].there_N[row]:
                    out[at] = self._views[view].read(row)
        return torch.from_numpy(out).view(*rows.shape, *self._row_shape)

    def read_ahead(self, rows_B: Tensor, views_B: Tensor) -> None:
        """Start to read the features of a batch."""
        for row, view in zip(rows_B.tolist(), views_B.tolist(), strict=True):
            self._views[view].read_ahead([row])

    def in_view(self, view: int) -> Tensor:
        """(N, F) or (N, P, F): all pictures in one view."""
        rows_N = torch.arange(len(self))
        return self[rows_N, torch.full_like(rows_N, view)]

    def to(self, device: str) -> Features:
        """On another device they have to fit into its memory."""
        return self if torch.device(device).type == "cpu" else self._copied(device)

    def _copied(self, device: str) -> Tensor:
        out = torch.empty(self.shape, dtype=torch.float16, device=device)
        views_V = torch.arange(self.shape[1])
        for rows_B in torch.split(torch.arange(len(self)), _COPIED_ROWS):
            out[rows_B[0] : rows_B[-1] + 1] = self[rows_B[:, None], views_V].to(device)
        return out


Features = Tensor | StoredFeatures


def sampled_rows(features: Features, pictures_M: Tensor) -> tuple[Tensor, Tensor]:
    """Rows enough for the statistics of their features: their standard errors are below 0.4 % of a deviation.

    Args:
        features: (N, V, F).
        pictures_M: numbers of the pictures to choose from.

    Returns:
        places_B: evenly spaced places in `pictures_M`.
        rows_RF: these pictures' features in float16, all views of one after the other; R = B · V.
    """
    views = features.shape[1]
    most = max(1, _SAMPLED_ROWS // views)
    places_B = torch.arange(len(pictures_M), device=pictures_M.device)[:: max(1, -(-len(pictures_M) // most))]
    views_V = torch.arange(views, device=pictures_M.device)
    return places_B, features[pictures_M[places_B][:, None], views_V].flatten(0, 1)
