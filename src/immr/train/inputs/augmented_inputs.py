"""Inputs of the towers from augmented pictures, through the encoder.

Shapes: B rows of one rank, S image side in pixels, F image features, P patches.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from immr.train.inputs.augmented_pictures import AugmentedPictures
from immr.train.inputs.batches import Rows
from immr.train.inputs.features import TrainingArrays
from immr.train.inputs.tower_inputs import TowerInputs

Encoder = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Pixels (B, 3, S, S) → pooled (B, F) and patch features (B, P, F)."""


class AugmentedInputs:
    """Pictures, augmented in every step, through the encoder; photos and documents in one pass."""

    def __init__(
        self, arrays: TrainingArrays, squares: AugmentedPictures, encoder: Encoder, in_bfloat16: bool
    ):
        """Join the inputs of a step from features and pictures.

        Args:
            arrays: on the device of the encoder.
            squares: the pictures of a step.
            encoder: trained or not.
            in_bfloat16: compute its products in bfloat16.
        """
        self._arrays, self._squares, self._encoder, self._in_bfloat16 = arrays, squares, encoder, in_bfloat16

    def ahead(self, steps: Iterable[tuple[int, Rows]]) -> Iterator[tuple[int, Rows]]:
        """The same steps, with pictures of the next ones possibly prefetched."""
        return self._squares.ahead(steps)

    def __call__(self, rows: Rows, step: int) -> TowerInputs:
        """Features with a gradient to the encoder."""
        device, count = self._arrays.photos_NVF.device, len(rows.photos_B)
        pixels_B3SS = self._squares(rows, step)
        with autocast(device, self._in_bfloat16):
            pooled_BF, patches_BPF = self._encoder(pixels_B3SS)
        pooled_BF, there = pooled_BF.float(), rows.to(str(device))
        batch = self._arrays.documents.batch(there.documents_B, there.document_views_B)
        live = dataclasses.replace(
            batch,
            pictures_BF=pooled_BF[count:],
            patches_BPF=None if batch.patches_BPF is None else patches_BPF[count:].float(),
        )
        return TowerInputs(pooled_BF[:count], live)


def autocast(device: torch.device, in_bfloat16: bool) -> contextlib.AbstractContextManager[object]:
    """bfloat16 products in the block, if wanted."""
    return torch.autocast(device.type, torch.bfloat16) if in_bfloat16 else contextlib.nullcontext()
