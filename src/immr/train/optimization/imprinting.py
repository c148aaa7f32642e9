"""The classifier's first rows: each class begins as its own documents (Qi et al., arXiv 1712.07136).

From random rows, the first visits of a class would pull its photos towards a random direction, and a class with few
photos has no others.

Shapes: M documents, R rows (classes) of this rank, D embedding.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from immr.model.towers import Towers
from immr.train.classifier.class_shard import INIT_DEVIATION, Shard
from immr.train.inputs.features import TrainingArrays

_BLOCK = 1024  # documents


@torch.no_grad()
def imprinted_rows(towers: Towers, arrays: TrainingArrays, shard: Shard) -> Tensor:
    """The mean of each class's documents as untrained towers embed them, as short as random rows, (R, D).

    Args:
        towers: before the first step; left in training mode.
        arrays: every class has a document; on the shard's device.
        shard: the classes of this rank.
    """
    dim = towers.recipe.dim
    own_M = (arrays.document_classes_M >= shard.start) & (arrays.document_classes_M < shard.stop)
    sums_RD = torch.zeros(shard.stop - shard.start, dim, device=arrays.document_classes_M.device)
    towers.eval()
    for rows_B in torch.split(own_M.nonzero().flatten(), _BLOCK):
        batch = arrays.documents.batch(rows_B, torch.zeros_like(rows_B))
        learned_BD = F.normalize(towers.document(batch)[:, :dim], dim=-1)
        sums_RD.index_add_(0, arrays.document_classes_M[rows_B] - shard.start, learned_BD)
    towers.train()
    return F.normalize(sums_RD, dim=-1) * INIT_DEVIATION * math.sqrt(dim)
