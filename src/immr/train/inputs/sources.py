"""Inputs of the towers: cached frozen features, or augmented pictures passed through the encoder.

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
    """One step's inputs to the two towers."""

    photos_BF: Tensor
    documents: DocumentBatch


class Inputs(Protocol):
    """Gives the features of a step's rows."""

    def __call__(self, rows: Rows, step: int) -> TowerInputs:
        """Features on the arrays' device, from rows on the host; differentiable if the encoder is trained."""


@dataclass(frozen=True)
class FrozenInputs:
    """Frozen features of each row's view, from the cache."""

    arrays: TrainingArrays

    def __call__(self, rows: Rows, step: int) -> TowerInputs:
        """Features without a gradient."""
        arrays = self.arrays
        rows = rows.to(str(arrays.photos_NVF.device))
        return TowerInputs(
            arrays.photos_NVF[rows.photos_B, rows.photo_views_B].float(),
            arrays.documents.batch(rows.documents_B, rows.document_views_B),
        )


@dataclass(frozen=True)
class Pictures:
    """Decoded pictures by row; None for a document without picture."""

    photos: Sequence[ByteArray]
    documents: Sequence[ByteArray | None]


class LiveInputs:
    """Pictures, augmented in every step, through the encoder; photos and documents in one pass.

    The augmentation depends on seed, step and row, not on rank or thread.
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
        """Features with a gradient to the encoder."""
        photos = [self._pictures.photos[row] for row in rows.photos_B.numpy()]
        documents = [self._pictures.documents[row] for row in rows.documents_B.numpy()]
        squares = [
            *self._changed(photos, self._augmentations.photo, _PHOTOS, rows.photos_B, step),
            *self._changed(documents, self._augmentations.catalogue, _CATALOGUE, rows.documents_B, step),
        ]
        kind = self._device.type
        reduced = torch.autocast(kind, torch.bfloat16) if self._autocast else contextlib.nullcontext()
        with reduced:
            pooled_BF, patches_BPF = self._encoder(self._pixels(squares))
        pooled_BF, count = pooled_BF.float(), len(photos)
        there = rows.to(str(self._device))
        batch = self._arrays.documents.batch(there.documents_B, there.document_views_B)
        live = dataclasses.replace(
            batch,
            pictures_BF=pooled_BF[count:],
            patches_BPF=None if batch.patches_BPF is None else patches_BPF[count:].float(),
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

        def changed(picture: ByteArray | None, row: np.int64) -> ByteArray:
            if picture is None:  # ignored: the tower has a learned vector for a missing picture
                return np.full((side, side, 3), round(self._preprocessing.mean), dtype=np.uint8)
            rng = np.random.default_rng(derived_seed(self._seed, 2, stream, step, int(row)))
            return domain.apply(picture, side, rng)

        return list(self._pool.map(changed, pictures, rows_B.numpy()))

    def _pixels(self, squares: Sequence[ByteArray]) -> Tensor:
        stacked_BSSC = torch.from_numpy(np.stack(squares))
        if self._device.type == "cuda":
            stacked_BSSC = stacked_BSSC.pin_memory()
        pixels_BSSC = stacked_BSSC.to(self._device, non_blocking=True).float()
        pixels_BSSC.sub_(self._preprocessing.mean).div_(self._preprocessing.std)
        return pixels_BSSC.permute(0, 3, 1, 2)  # channels last in memory: twice as fast here
