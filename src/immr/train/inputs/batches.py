"""Which photos and documents each rank sees in each step.

Shapes: N photos, M documents, B rows of one rank.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from immr.errors import TrainingError
from immr.machine.wording import counted
from immr.train.seeds import derived_seed
from immr.train.world import World


@dataclass(frozen=True)
class Rows:
    """Row numbers of one step on one rank, and the view of each."""

    photos_B: Tensor
    photo_views_B: Tensor
    documents_B: Tensor
    document_views_B: Tensor

    def to(self, device: str) -> Rows:
        """The same on a device, copied at once and without waiting."""
        if device == "cpu":
            return self
        parts = [self.photos_B, self.photo_views_B, self.documents_B, self.document_views_B]
        joined = torch.cat(parts)
        if device.startswith("cuda"):
            joined = joined.pin_memory()
        sizes = [len(part) for part in parts]
        return Rows(*torch.split(joined.to(device, non_blocking=True), sizes))


@dataclass(frozen=True)
class Partners:
    """Photos of a class in pairs, and a document of their class for each pair."""

    classes_N: Tensor  # of each photo
    first_N: Tensor  # of each photo: where its class starts in `documents_M`
    count_N: Tensor  # at least 1
    documents_M: Tensor  # sorted by class
    per_class_C: Tensor  # photos
    photos: int  # of an epoch: of a class with an odd number, one is shown twice

    @classmethod
    def of(cls, photo_classes_N: Tensor, document_classes_M: Tensor) -> Partners:
        """Every photo's class needs a document."""
        order_M = document_classes_M.argsort(stable=True)
        sorted_M = document_classes_M[order_M]
        first_N = torch.searchsorted(sorted_M, photo_classes_N)
        count_N = torch.searchsorted(sorted_M, photo_classes_N, right=True) - first_N
        per_class_C = photo_classes_N.bincount()
        shown = int((per_class_C + per_class_C % 2).sum())
        return cls(photo_classes_N, first_N, count_N, order_M, per_class_C, shown)

    def pairs(self, generator: torch.Generator) -> Tensor:
        """An epoch's photos in random order, except that two of a class follow each other."""
        shuffled_N = torch.randperm(len(self.classes_N), generator=generator)
        by_class_N = shuffled_N[self.classes_N[shuffled_N].argsort(stable=True)]
        count_C = self.per_class_C
        padded_C = count_C + count_C % 2
        start_C, padded_start_C = count_C.cumsum(0) - count_C, padded_C.cumsum(0) - padded_C
        sorted_N = self.classes_N[by_class_N]
        padded = torch.empty(self.photos, dtype=torch.long)
        padded[padded_start_C[sorted_N] + torch.arange(len(by_class_N)) - start_C[sorted_N]] = by_class_N
        odd = (count_C % 2).nonzero().flatten()
        padded[padded_start_C[odd] + count_C[odd]] = by_class_N[start_C[odd]]
        pairs = padded.view(-1, 2)
        return pairs[torch.randperm(len(pairs), generator=generator)].flatten()

    def draw(self, photos_B: Tensor, generator: torch.Generator) -> Tensor:
        """One document of each photo's class, (B,)."""
        dice_B = torch.rand(len(photos_B), generator=generator)
        number_B = (dice_B * self.count_N[photos_B]).long()
        return self.documents_M[self.first_N[photos_B] + number_B]


@dataclass(frozen=True)
class BatchPlan:
    """An epoch is one pass over the photos.

    Without partners, the documents take turns. With partners, photos come in pairs of a class, and a step has a
    matching document for each of its first pairs. Every rank has the same number of rows in every step; the
    remainder of an epoch is left out until the next shuffle.
    """

    photos: int
    documents: int
    views: int
    batch_size: int
    document_batch_size: int
    seed: int
    world: World
    partners: Partners | None = None

    def __post_init__(self) -> None:
        if self.photos_shown < self.world.size * (2 if self.partners else 1):
            raise TrainingError(
                f"{counted(self.photos, 'photo')} cannot fill the batches of {counted(self.world.size, 'process')}: "
                "use fewer processes or more photos"
            )

    @property
    def photos_shown(self) -> int:
        """Photos of an epoch on all ranks together, its remainder included; the same for any number of ranks."""
        return self.partners.photos if self.partners else self.photos

    @property
    def photo_batch(self) -> int:
        """Photos per rank and step; even if they come in pairs."""
        if not self.partners:
            return min(self.batch_size, self.photos // self.world.size)
        return max(2, min(self.batch_size, self.photos_shown // self.world.size) // 2 * 2)

    @property
    def document_batch(self) -> int:
        """Documents per rank and step."""
        available = self.photo_batch // 2 if self.partners else self.documents // self.world.size
        return max(1, min(self.document_batch_size, available))

    @property
    def steps_per_epoch(self) -> int:
        """At least one."""
        return self.photos_shown // (self.photo_batch * self.world.size)

    def epoch(self, epoch: int) -> Iterator[Rows]:
        """This rank's rows of each step; the same arguments give the same rows, so a resumed run is exact."""
        shared = _generator(self.seed, epoch, 0)
        own = _generator(self.seed, epoch, 1 + self.world.rank)
        photo_order = (
            self.partners.pairs(shared) if self.partners else torch.randperm(self.photos, generator=shared)
        )
        document_order = torch.randperm(self.documents, generator=shared)
        for step in range(self.steps_per_epoch):
            photos_B = photo_order[self._places(step, self.photo_batch)]
            photo_views_B = torch.randint(self.views, photos_B.shape, generator=own)
            if self.partners:
                documents_B = self.partners.draw(photos_B[::2][: self.document_batch], own)
            else:
                documents_B = document_order[self._places(step, self.document_batch) % self.documents]
            yield Rows(
                photos_B=photos_B,
                photo_views_B=photo_views_B,
                documents_B=documents_B,
                document_views_B=torch.randint(self.views, documents_B.shape, generator=own),
            )

    def _places(self, step: int, batch: int) -> Tensor:
        start = (step * self.world.size + self.world.rank) * batch
        return torch.arange(start, start + batch)


def _generator(seed: int, *place: int) -> torch.Generator:
    return torch.Generator().manual_seed(derived_seed(seed, *place))
