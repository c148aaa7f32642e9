"""Chooses the rows of a step's softmax: the batch's classes and some of the others.

All sizes are known beforehand, and nothing is read by the host, so a GPU never waits.

Shapes: A examples of all ranks, R rows of this rank, N negatives at most, S sampled rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from immr.train.classifier import counter_random
from immr.train.seeds import derived_seed


@dataclass(frozen=True)
class Sample:
    """Row numbers of a step, sorted and distinct except for the padding.

    The first `count` are the sample. Padding repeats its last row and takes no part in the softmax.
    """

    rows_S: Tensor
    count: Tensor | None  # int64 scalar; None if there is no padding

    def is_padding(self) -> Tensor | None:
        """(S,); None if there is none."""
        if self.count is None:
            return None
        return torch.arange(len(self.rows_S), device=self.rows_S.device) >= self.count

    def source(self) -> Tensor | None:
        """The place that each place repeats, (S,); None if there is no padding."""
        if self.count is None:
            return None
        places_S = torch.arange(len(self.rows_S), device=self.rows_S.device)
        return torch.minimum(places_S, (self.count - 1).clamp_min(0))


def sample_seed(seed: int, step: int, rank: int) -> int:
    """Of a rank's sample in a step; `seed` is the run's. A resumed run repeats the sample."""
    return derived_seed(seed, step, rank + 1)


def draw_rows(labels_A: Tensor, row_count: int, rate: float, seed: int | Tensor) -> Sample:
    """All positives, and negatives up to exactly `rate` of the rows.

    The other rows are divided into equal stretches on a randomly shifted grid, and one negative is drawn from each
    (ours). Every row is equally likely, and the cost depends on the sample, not on the number of rows.

    Args:
        labels_A: row numbers; those outside of 0 … R belong to other ranks.
        row_count: R.
        rate: share of the rows; if there are more positives, only these are sampled.
        seed: from `sample_seed`; a CUDA graph reads it from an int64 scalar.
    """
    device, wanted = labels_A.device, math.ceil(rate * row_count)
    if wanted >= row_count:
        return Sample(torch.arange(row_count, device=device), None)
    positive_A, positives = _positives(labels_A, row_count)
    dice = counter_random.uniform(seed, wanted + 1, device)
    negative_N, before_N = _negatives(dice, positive_A, positives, row_count)
    size = max(wanted, min(len(labels_A), row_count))
    # merge the two sorted lists: a row's place is the number of rows before it
    stretches = (wanted - positives).clamp_min(0)
    places_A, places_N = (torch.arange(len(rows), device=device) for rows in (positive_A, negative_N))
    after_A = places_A + torch.searchsorted(negative_N, positive_A)
    merged = torch.zeros(size + 1, dtype=torch.long, device=device)
    merged[torch.where(places_A < positives, after_A, size)] = positive_A
    merged[torch.where(places_N < stretches, places_N + before_N, size)] = negative_N
    if size == wanted:
        return Sample(merged[:size], None)
    sample = Sample(merged[:size], positives + stretches)
    source_S = sample.source()
    assert source_S is not None
    return Sample(sample.rows_S[source_S], sample.count)


def _positives(labels_A: Tensor, row_count: int) -> tuple[Tensor, Tensor]:
    """The distinct rows among the labels, sorted and followed by R, (A,); and their number."""
    own_A = torch.where((labels_A >= 0) & (labels_A < row_count), labels_A, row_count).sort().values
    is_new_A = own_A < row_count
    is_new_A[1:] &= own_A[1:] != own_A[:-1]
    return torch.where(is_new_A, own_A, row_count).sort().values, is_new_A.sum()


def _negatives(dice: Tensor, positive_A: Tensor, positives: Tensor, row_count: int) -> tuple[Tensor, Tensor]:
    """Negatives, sorted and followed by R, (N,); and how many positives are before each, (N,).

    Args:
        dice: uniform numbers, (N + 1,); the last one shifts the grid.
        positive_A: from `_positives`.
        positives: their number.
        row_count: R.
    """
    wanted, others = len(dice) - 1, row_count - positives
    stretches = (wanted - positives).clamp_min(0)
    numbers_N = torch.arange(wanted, device=dice.device)
    divisor = stretches.clamp_min(1)
    first_N = numbers_N * others // divisor
    width_N = (numbers_N + 1) * others // divisor - first_N
    drawn_N = first_N + (dice[:-1] * width_N).long()
    is_drawn_N = numbers_N < stretches
    # the shift carries the last ones around to the front
    limit = others - (dice[-1] * others).long()
    kept = (is_drawn_N & (drawn_N < limit)).sum()
    turned_N = drawn_N[(numbers_N + kept) % divisor] - limit
    turned_N = torch.where(turned_N < 0, turned_N + others, turned_N)
    # from a number among the others to a row number: one more for each positive before it
    places_A = torch.arange(len(positive_A), device=dice.device)
    room_A = torch.where(places_A < positives, positive_A - places_A, row_count)
    before_N = torch.searchsorted(room_A, turned_N, right=True)
    return torch.where(is_drawn_N, turned_N + before_N, row_count), before_N
