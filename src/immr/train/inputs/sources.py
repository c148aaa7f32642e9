"""Where the towers' inputs come from: frozen features out of the cache, or pictures through the live encoder.

Shapes: B rows of one rank, S image side in pixels, F image features, P patches.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from immr.model.features.pixels import ByteArray
from immr.model.preprocessing import Preprocessing
from immr.model.towers import DocumentBatch
from immr.train.inputs.augmentation import AUGMENTATIONS, Augmentation, DomainAugmentations
from immr.train.inputs.batches import Rows
from immr.train.inputs.features import TrainingArrays
from immr.train.seeds import derived_seed

_PHOTOS, _CATALOGUE = 0, 1  # streams of random numbers


class TowerInputs(NamedTuple):
    """What one step gives to the two towers."""

    photos_BF: Tensor
    documents: DocumentBatch


class Inputs(Protocol):
    """The features of a step's rows."""

    def __call__(self, rows: Rows, step: int) -> TowerInputs:
        """Features with a gradient where something below them learns."""


@dataclass(frozen=True)
class FrozenInputs:
    """Each row in its view, from the cache of frozen features."""

    arrays: TrainingArrays

    def __call__(self, rows: Rows, step: int) -> TowerInputs:
        """No gradient."""
        arrays = self.arrays
        return TowerInputs(
            arrays.photos_NVF[rows.photos_B, rows.photo_views_B].float(),
            arrays.documents.batch(rows.documents_B, rows.document_views_B),
        )


@dataclass(frozen=True)
class Pictures:
    """Decoded pictures by row: of photos, and of documents, None where one has no picture."""

    photos: Sequence[ByteArray]
    documents: Sequence[ByteArray | None]


class LiveInputs:
    """Pictures, augmented anew in each step, through the encoder that learns; both streams in one pass.

    What a picture becomes depends on the seed, the step and its row, not on the rank or the thread it met.
    """

    def __init__(
        self,
        arrays: TrainingArrays,
        pictures: Pictures,
        encoder: nn.Module,
        preprocessing: Preprocessing,
        seed: int,
        augmentations: DomainAugmentations = AUGMENTATIONS["photos"],
        autocast: bool = False,
    ):
        self._augmentations = augmentations
        self._arrays, self._pictures, self._encoder = arrays, pictures, encoder
        self._preprocessing, self._seed, self._autocast = preprocessing, seed, autocast
        self._device = next(encoder.parameters()).device
        self._pool = ThreadPoolExecutor(max(1, torch.get_num_threads()))  # Pillow and numpy release the GIL

    def __call__(self, rows: Rows, step: int) -> TowerInputs:
        """The gradient goes on into the encoder."""
        photos = [self._pictures.photos[row] for row in rows.photos_B.tolist()]
        documents = [self._pictures.documents[row] for row in rows.documents_B.tolist()]
        squares = [
            *self._changed(photos, self._augmentations.photo, _PHOTOS, rows.photos_B, step),
            *self._changed(documents, self._augmentations.catalogue, _CATALOGUE, rows.documents_B, step),
        ]
        kind = self._device.type
        reduced = torch.autocast(kind, torch.bfloat16) if self._autocast else contextlib.nullcontext()
        with reduced:
            pooled_BF, patches_BPF = self._encoder(self._pixels(squares))
        pooled_BF = pooled_BF.float().cpu()  # where the towers are, which cost next to nothing
        count = len(photos)
        batch = self._arrays.documents.batch(rows.documents_B, rows.document_views_B)
        live = dataclasses.replace(
            batch,
            pictures_BF=pooled_BF[count:],
            patches_BPF=None if batch.patches_BPF is None else patches_BPF[count:].float().cpu(),
        )
        return TowerInputs(pooled_BF[:count], live)

    def _changed(
        self,
        pictures: Sequence[ByteArray | None],
        domain: Augmentation,
        stream: int,
        rows_B: Tensor,
        step: int,
    ) -> list[ByteArray]:
        side = self._preprocessing.image_size_px

        def changed(picture: ByteArray | None, row: int) -> ByteArray:
            if picture is None:  # the tower has a vector of its own for it
                return np.full((side, side, 3), round(self._preprocessing.mean), dtype=np.uint8)
            rng = np.random.default_rng(derived_seed(self._seed, 2, stream, step, row))
            return domain.apply(picture, side, rng)

        return list(self._pool.map(changed, pictures, rows_B.tolist()))

    def _pixels(self, squares: Sequence[ByteArray]) -> Tensor:
        pixels_BSSC = torch.from_numpy(np.stack(squares)).to(self._device).float()
        pixels_BSSC.sub_(self._preprocessing.mean).div_(self._preprocessing.std)
        return pixels_BSSC.permute(0, 3, 1, 2)  # channels last in memory: twice as fast here
