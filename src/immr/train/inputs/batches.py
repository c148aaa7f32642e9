"""Which photos and documents each rank sees in each step: both streams, q and d, go in one step.

Shapes: N photos, M documents, B rows of one rank.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from immr.errors import TrainingError
from immr.train.seeds import derived_seed
from immr.train.world import World


@dataclass(frozen=True)
class Rows:
    """Row numbers of one step on one rank, and the view of each."""

    photos_B: Tensor
    photo_views_B: Tensor
    documents_B: Tensor
    document_views_B: Tensor


@dataclass(frozen=True)
class BatchPlan:
    """An epoch passes over the photos once; documents go round and round.

    Every rank brings the same number of rows to every step; what is left over at an epoch's end waits for the
    next shuffle.
    """

    photos: int
    documents: int
    views: int
    batch_size: int
    document_batch_size: int
    seed: int
    world: World

    def __post_init__(self) -> None:
        if self.photos < self.world.size:
            raise TrainingError(
                f"{self.photos} photos are too few for {self.world.size} processes: "
                "take fewer processes or more photos"
            )

    @property
    def photo_batch(self) -> int:
        """Photos per rank and step."""
        return min(self.batch_size, self.photos // self.world.size)

    @property
    def document_batch(self) -> int:
        """Documents per rank and step."""
        return max(1, min(self.document_batch_size, self.documents // self.world.size))

    @property
    def steps_per_epoch(self) -> int:
        """At least one."""
        return self.photos // (self.photo_batch * self.world.size)

    def epoch(self, epoch: int) -> Iterator[Rows]:
        """This rank's rows of each step; depends on nothing but the arguments, so that a resume is exact."""
        shared = _generator(self.seed, epoch, 0)
        own = _generator(self.seed, epoch, 1 + self.world.rank)
        photo_order = torch.randperm(self.photos, generator=shared)
        document_order = torch.randperm(self.documents, generator=shared)
        for step in range(self.steps_per_epoch):
            photos_B = photo_order[self._places(step, self.photo_batch)]
            documents_B = document_order[self._places(step, self.document_batch) % self.documents]
            yield Rows(
                photos_B=photos_B,
                photo_views_B=torch.randint(self.views, photos_B.shape, generator=own),
                documents_B=documents_B,
                document_views_B=torch.randint(self.views, documents_B.shape, generator=own),
            )

    def _places(self, step: int, batch: int) -> Tensor:
        start = (step * self.world.size + self.world.rank) * batch
        return torch.arange(start, start + batch)


def _generator(seed: int, *place: int) -> torch.Generator:
    return torch.Generator().manual_seed(derived_seed(seed, *place))
