"""The classifier with its rows sharded over the ranks: no rank ever holds all classes or all logits.

Shapes: B examples of this rank, A examples of all ranks, R rows (classes) of this rank, S sampled rows,
D embedding.
Hybrid parallel training as in arXiv 2305.03972; sampled rows as in Partial FC (arXiv 2010.05222).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from immr.train.collectives import gather_rows, max_over_ranks, sum_over_ranks
from immr.train.margins import Margin
from immr.train.seeds import derived_seed
from immr.train.world import World

_INIT_BLOCK = 1024  # rows that share an initial seed: no rank makes all rows to keep its own


class ShardedClassifier(nn.Module):
    """Cosine softmax with margin over the batch's classes and sampled negatives."""

    def __init__(
        self,
        class_count: int,
        dim: int,
        margin: Margin,
        scale: float,
        negative_rate: float,
        world: World,
        seed: int,
    ):
        super().__init__()
        self.margin, self.scale, self.negative_rate = margin, scale, negative_rate
        self.world, self.seed = world, seed
        self.start, self.stop = shard_bounds(class_count, world)
        self.rows_RD = nn.Parameter(_initial_rows(self.start, self.stop, dim, seed))

    def forward(self, embeddings_BD: Tensor, labels_B: Tensor, step: int) -> Tensor:
        """−log softmax of the right class for every rank's examples, (A,) in rank order, equal on all ranks.

        Args:
            embeddings_BD: unit rows; every rank brings the same B.
            labels_B: class ids.
            step: seeds the sampled negatives.
        """
        embeddings_AD = gather_rows(embeddings_BD, self.world)
        labels_A = gather_rows(labels_B, self.world)
        sampled_S = self.sample(labels_A, step)
        rows_SD = self.rows_RD if len(sampled_S) == len(self.rows_RD) else self.rows_RD[sampled_S]
        cosine_AS = embeddings_AD @ F.normalize(rows_SD, dim=-1).T
        return self._loss(cosine_AS, labels_A - self.start, sampled_S)

    def sample(self, labels_A: Tensor, step: int) -> Tensor:
        """Rows of this shard that a step's softmax sees, sorted, (S,): the batch's classes and negatives."""
        count = len(self.rows_RD)
        if self.negative_rate >= 1.0:
            return torch.arange(count)
        positive_P = torch.unique(labels_A[(labels_A >= self.start) & (labels_A < self.stop)]) - self.start
        priority_R = torch.rand(count, generator=_generator(self.seed, step, self.world.rank))
        priority_R[positive_P] = 2.0
        size = max(len(positive_P), math.ceil(self.negative_rate * count))
        return priority_R.topk(size).indices.sort().values

    def _loss(self, cosine_AS: Tensor, local_labels_A: Tensor, sampled_S: Tensor) -> Tensor:
        own_A, column_A = _columns(local_labels_A, sampled_S)
        target_A = torch.zeros(len(cosine_AS), dtype=cosine_AS.dtype)
        logits_AS = self.scale * cosine_AS
        if bool(own_A.any()):
            rows = own_A.nonzero().flatten()
            hardened = self.scale * self.margin(cosine_AS[rows, column_A[rows]])
            logits_AS = logits_AS.index_put((rows, column_A[rows]), hardened)
            target_A = target_A.index_put((rows,), hardened)
        highest_A = max_over_ranks(_row_max(logits_AS), self.world)
        exponent_sum_A = sum_over_ranks((logits_AS - highest_A[:, None]).exp().sum(1), self.world)
        return exponent_sum_A.log() + highest_A - sum_over_ranks(target_A, self.world)


def shard_bounds(class_count: int, world: World) -> tuple[int, int]:
    """First and past-last class of this rank; shards differ by one row at most."""
    return class_count * world.rank // world.size, class_count * (world.rank + 1) // world.size


def _columns(local_labels_A: Tensor, sampled_S: Tensor) -> tuple[Tensor, Tensor]:
    """Whether an example's class is among the sampled rows, and in which column; both (A,)."""
    if not len(sampled_S):
        return torch.zeros_like(local_labels_A, dtype=torch.bool), torch.zeros_like(local_labels_A)
    column_A = torch.searchsorted(sampled_S, local_labels_A).clamp_max(len(sampled_S) - 1)
    return sampled_S[column_A] == local_labels_A, column_A


def _row_max(logits_AS: Tensor) -> Tensor:
    if logits_AS.shape[1]:
        return logits_AS.amax(1)
    return torch.full((len(logits_AS),), -math.inf, dtype=logits_AS.dtype)


def _initial_rows(start: int, stop: int, dim: int, seed: int) -> Tensor:
    """Rows `start` … `stop`: the same for every number of ranks."""
    parts = []
    for block in range(start // _INIT_BLOCK, math.ceil(stop / _INIT_BLOCK)):
        first = block * _INIT_BLOCK
        rows = torch.randn(_INIT_BLOCK, dim, generator=_generator(seed, block, -1))
        parts.append(rows[max(0, start - first) : stop - first])
    return torch.cat([torch.zeros(0, dim), *parts])


def _generator(seed: int, number: int, rank: int) -> torch.Generator:
    return torch.Generator().manual_seed(derived_seed(seed, number, rank + 1))
