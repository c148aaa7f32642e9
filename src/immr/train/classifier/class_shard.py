"""Which classes a rank owns: its first rows, its sample of negatives, and its part of a checkpoint.

Shapes: B examples of this rank, A examples of all ranks, C classes, R rows (classes) of this rank, S sampled
rows, D embedding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor
from torch.distributed.tensor import Shard as ByRows

from immr.machine.allocator import empty_rows
from immr.train.classifier import counter_random
from immr.train.classifier.collectives import gather_rows
from immr.train.classifier.sampling import Sample, draw_rows, sample_seed
from immr.train.seeds import derived_seed
from immr.train.world import World

_INIT_BLOCK = 1024  # rows that share an initial seed, so no rank has to draw the rows of others
_DEVICE_BLOCK = 1 << 18  # rows drawn at once on a GPU
INIT_DEVIATION = 0.01  # short rows turn in few visits: the gradient of a row grows with its inverse norm


@dataclass(frozen=True)
class Shard:
    """The classes `start` … `stop` of this rank: equal parts, rounded up; the last rank may have fewer or none.

    torch.chunk and DTensor split alike, so any number of ranks can read a checkpoint of the rows.
    """

    class_count: int
    dim: int
    world: World
    seed: int = 0

    @property
    def start(self) -> int:
        """The first class of this rank."""
        return self._cut(self.world.rank)

    @property
    def stop(self) -> int:
        """One past the last class of this rank."""
        return self._cut(self.world.rank + 1)

    def whole(self, rows_RD: Tensor) -> Tensor:
        """These rows as this rank's part of a (C, D) tensor, for a checkpoint; shares their memory."""
        if self.world.size == 1:
            return rows_RD
        mesh = init_device_mesh(rows_RD.device.type, (self.world.size,))
        size = torch.Size((self.class_count, *rows_RD.shape[1:]))
        return DTensor.from_local(
            rows_RD, mesh, [ByRows(0)], run_check=False, shape=size, stride=rows_RD.stride()
        )

    def first_rows(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """(R, D), normal with a small deviation; a row does not depend on the number of ranks.

        A GPU draws its own, because the host would take seconds for a million rows.
        """
        count, device = self.stop - self.start, torch.device(self.world.device)
        if device.type != "cpu":
            return self._drawn_on(device, dtype)
        rows_RD = empty_rows(count, self.dim, dtype)
        for block in range(self.start // _INIT_BLOCK, math.ceil(self.stop / _INIT_BLOCK)):
            first = block * _INIT_BLOCK
            generator = torch.Generator().manual_seed(derived_seed(self.seed, block, 0))
            rows = torch.randn(_INIT_BLOCK, self.dim, generator=generator) * INIT_DEVIATION
            mine = rows[max(0, self.start - first) : self.stop - first]
            begin = max(self.start, first) - self.start
            rows_RD[begin : begin + len(mine)] = mine
        return rows_RD

    def _drawn_on(self, device: torch.device, dtype: torch.dtype) -> Tensor:
        count, pairs = self.stop - self.start, -(-self.dim // 2)
        rows_RD = torch.empty(count, self.dim, dtype=dtype, device=device)
        seed = derived_seed(self.seed, 0, 1)
        for first in range(0, count, _DEVICE_BLOCK):
            block_BD = rows_RD[first : first + _DEVICE_BLOCK]
            start = (self.start + first) * pairs
            halves_2BP = counter_random.normal(seed, len(block_BD) * pairs, device, start).view(
                2, len(block_BD), pairs
            )
            block_BD.copy_(torch.cat([halves_2BP[0], halves_2BP[1]], dim=1)[:, : self.dim])
            block_BD.mul_(INIT_DEVIATION)
        return rows_RD

    def gather(self, embeddings_BD: Tensor, labels_B: Tensor) -> tuple[Tensor, Tensor]:
        """All ranks' embeddings, (A, D), and labels relative to this shard's first row, (A,).

        Both are on the rank's device.
        """
        embeddings_BD, labels_B = embeddings_BD.to(self.world.device), labels_B.to(self.world.device)
        return gather_rows(embeddings_BD, self.world), gather_rows(labels_B, self.world) - self.start

    def sample(self, local_labels_A: Tensor, rate: float, step: int) -> Sample:
        """The rows of a step's softmax: the batch's classes and negatives."""
        count = self.stop - self.start
        return draw_rows(local_labels_A, count, rate, self.sample_seed(step))

    def sample_seed(self, step: int) -> int:
        """Of this rank's sample in a step."""
        return sample_seed(self.seed, step, self.world.rank)

    def _cut(self, rank: int) -> int:
        return min(self.class_count, math.ceil(self.class_count / self.world.size) * rank)
