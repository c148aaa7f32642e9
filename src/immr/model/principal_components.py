"""Principal components of weighted features.

Shapes: B rows, F features, C components, D rows of a projection.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

FITTED_ROWS = 8192  # per domain, enough for the principal directions
_OVERSAMPLED, _ITERATIONS = 16, 4  # of the randomized SVD


def some(rows_BX: Tensor) -> Tensor:
    """At most `FITTED_ROWS` rows, evenly spaced."""
    return rows_BX[:: -(-len(rows_BX) // FITTED_ROWS)]


def shares_of(weights_B: Tensor | None, rows_BF: Tensor) -> Tensor:
    """Weights that sum to 1, in float64; without any, each row weighs the same."""
    if weights_B is None:
        weights_B = torch.ones(len(rows_BF), device=rows_BF.device)
    return weights_B.double() / weights_B.double().sum()


def begin_with(rows_DF: Tensor, components_CF: Tensor) -> None:
    """Set the first rows to as many components as there are, and the rest to zero."""
    count = min(len(rows_DF), len(components_CF))
    rows_DF[:count].copy_(components_CF[:count])
    rows_DF[count:].zero_()


def components(domains: list[tuple[Tensor, Tensor]], count: int) -> Tensor:
    """The first principal directions (≤ count, F) of unit rows with weights; each domain weighs the same."""
    rows_BF = torch.cat(
        [
            F.normalize(rows, dim=-1) * (shares / shares.sum()).sqrt()[:, None].float()
            for rows, shares in domains
        ]
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # randomized SVD (arXiv 0909.4061) starts at random
        wanted = min(count + _OVERSAMPLED, *rows_BF.shape)
        directions_FC = torch.svd_lowrank(rows_BF, q=wanted, niter=_ITERATIONS)[2]
    return directions_FC[:, :count].T.contiguous()
