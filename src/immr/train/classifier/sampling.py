"""Chooses the rows of a step's softmax: the batch's classes and some of the others.

Shapes: R rows of this rank, P positives, S sampled rows.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from immr.train.seeds import derived_seed


def sample_rows(positive_P: Tensor, row_count: int, rate: float, seed: int, step: int, rank: int) -> Tensor:
    """All positives, and negatives up to exactly `rate` of the rows; sorted and distinct, (S,).

    The other rows are divided into equal stretches on a randomly shifted grid, and one negative is drawn from each
    (ours). Every row is equally likely, and the cost depends on the sample, not on the number of rows.

    Args:
        positive_P: sorted, distinct row numbers.
        row_count: R.
        rate: share of the rows; if there are more positives, only these are returned.
        seed: of the run; together with `step` and `rank` it determines the sample, so a resumed run repeats it.
        step: counts from 0.
        rank: of this process.
    """
    wanted = math.ceil(rate * row_count)
    if wanted >= row_count:
        return torch.arange(row_count)
    stretches, others = wanted - len(positive_P), row_count - len(positive_P)
    if stretches <= 0:
        return positive_P
    generator = torch.Generator().manual_seed(derived_seed(seed, step, rank + 1))
    edges = torch.arange(stretches + 1) * others // stretches
    dice = torch.rand(stretches, generator=generator, dtype=torch.float64)
    drawn = edges[:-1] + (dice * edges.diff()).long()
    drawn = (drawn + torch.randint(others, (1,), generator=generator)) % others
    # from a number among the others to a row number: one more for each positive before it
    before_P = positive_P - torch.arange(len(positive_P))
    drawn = drawn + torch.searchsorted(before_P, drawn, right=True)
    return torch.cat([positive_P, drawn]).sort().values
