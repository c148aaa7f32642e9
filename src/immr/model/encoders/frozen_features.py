"""Frozen features of pictures: in torch on a GPU if there is one, else in OpenVINO on the CPU.

Shapes: B pictures, S image side in pixels, F image features, P patches.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from PIL import Image

from immr.model.encoders.half_precision import agree
from immr.model.encoders.onnx_graph import FrozenImageEncoder, Output, Square
from immr.model.model_recipe import ModelRecipe
from immr.types import FloatArray

_LARGEST = 2.0  # sides of a picture that the device resizes, relative to the input's
_log = logging.getLogger(__name__)


class FrozenEncoder(Protocol):
    """Pictures to features. `prepare` and `collate` run in any process, `encode` in this one."""

    @property
    def batch(self) -> int:
        """The best batch size."""

    @property
    def workers(self) -> int:
        """Processes that read the next pictures; with 0, they are read between batches."""

    def prepare(self, picture: Image.Image) -> Square:
        """The input for an upright RGB picture."""

    def collate(self, squares: Sequence[Square]) -> Any:
        """The inputs of a batch together, at least one and at most `batch`."""

    def encode(self, squares: Any, output: Output) -> FloatArray:
        """`pooled` (B, F) or `patches` (B, P, F), of inputs or of what `collate` made of them."""


def frozen_encoder(
    recipe: ModelRecipe, cache_dir: Path, threads: int = 1, weights: Path | None = None
) -> FrozenEncoder:
    """The encoder for this machine.

    Args:
        recipe: names the encoder and its image size.
        cache_dir: where OpenVINO's graph is kept.
        threads: of this process.
        weights: of a fine-tuned encoder.
    """
    import torch

    if torch.cuda.is_available():
        return TorchEncoder(recipe, weights, torch.device("cuda", torch.cuda.current_device()), threads)
    return FrozenImageEncoder(recipe, cache_dir, threads, weights)


class PictureBatch(NamedTuple):
    """A batch of pictures whose centred squares are the input, each in the top left corner of a sheet."""

    pixels_BHWC: Any  # uint8 tensor, zero outside of the pictures
    size_B2: Any  # float32 tensor: heights and widths; None if all pictures have the right size


class TorchEncoder:
    """Runs the encoder's module on a device, in float16 if its features are the same there.

    The device also resizes the pictures, which would take the host longer than to decode them. The first batch is
    encoded in float32 as well; if any of its features differs, later batches use float32.
    """

    batch = 64

    def __init__(self, recipe: ModelRecipe, weights: Path | None, device: Any, workers: int = 1):
        """Load the encoder.

        Args:
            recipe: names the encoder and its image size.
            weights: of a fine-tuned encoder.
            device: of torch.
            workers: as in `FrozenEncoder`.
        """
        import torch

        from immr.model.encoders.by_name import load_image_encoder, preprocessing_of

        self._preprocessing, self.workers = preprocessing_of(recipe), workers
        encoder = load_image_encoder(recipe.image_encoder, recipe.image_size_px, weights).eval()
        self._encoder = encoder.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._device, self._half = device, None if device.type == "cuda" else False
        if device.type == "cuda":
            torch.backends.cudnn.benchmark = True

    @property
    def is_half(self) -> bool:
        """Whether features are computed in float16; decided by the first batch."""
        return bool(self._half)

    def prepare(self, picture: Image.Image) -> Square:
        """(H, W, 3), whole levels, whose centred square is the input, at most `_LARGEST` times as large."""
        shorter = min(picture.size)
        if self._preprocessing.framing != "centre" or shorter > _LARGEST * self._preprocessing.image_size_px:
            return self._preprocessing.square(picture)
        left, top = ((length - shorter) // 2 for length in picture.size)
        width, height = (shorter + (length - shorter) % 2 for length in picture.size)
        return np.asarray(picture.crop((left, top, left + width, top + height)))

    def collate(self, squares: Sequence[Square]) -> PictureBatch:
        """The pictures on sheets as large as the largest."""
        import torch

        side, sizes = self._preprocessing.image_size_px, [square.shape[:2] for square in squares]
        if set(sizes) == {(side, side)}:
            return PictureBatch(torch.from_numpy(np.stack(squares)), None)
        height, width = (max(edges) for edges in zip(*sizes, strict=True))
        pixels_BHWC = torch.zeros(len(squares), height, width, 3, dtype=torch.uint8)
        for sheet_HWC, square in zip(pixels_BHWC.numpy(), squares, strict=True):
            sheet_HWC[: square.shape[0], : square.shape[1]] = square
        return PictureBatch(pixels_BHWC, torch.tensor(sizes, dtype=torch.float32))

    def encode(self, squares: Sequence[Square] | PictureBatch, output: Output) -> FloatArray:
        """`pooled` (B, F) or `patches` (B, P, F)."""
        import torch

        batch = squares if isinstance(squares, PictureBatch) else self.collate(squares)
        count = len(batch.pixels_BHWC)
        pixels = self._resized(batch)
        pixels = pixels.sub_(self._preprocessing.mean).div_(self._preprocessing.std)
        if count < self.batch and self._device.type == "cuda":  # one size, so kernels are chosen once
            blank = pixels.new_zeros(self.batch - count, *pixels.shape[1:])
            pixels = torch.cat([pixels, blank]).contiguous(memory_format=torch.channels_last)
        features: FloatArray = self.features(pixels, output)[:count].cpu().numpy()
        return features

    def _resized(self, batch: PictureBatch) -> Any:
        """(B, 3, S, S), whole levels in float32, on the device and with channels last in memory."""
        import torch

        from immr.model.device_resizing import resized

        pixels = batch.pixels_BHWC.to(self._device, non_blocking=True).permute(0, 3, 1, 2).float()
        if batch.size_B2 is None:
            return pixels
        size_B2 = batch.size_B2.to(self._device, non_blocking=True)
        start_B2, side_B1 = (size_B2 - size_B2.amin(1, keepdim=True)) / 2, size_B2.amin(1, keepdim=True)
        box_B4 = torch.cat([start_B2, start_B2 + side_B1], 1)[:, [1, 0, 3, 2]]
        squares = resized(pixels, box_B4, size_B2, self._preprocessing.image_size_px)
        return squares.round_().clamp_(0, 255).contiguous(memory_format=torch.channels_last)

    def features(self, pixels_B3SS: Any, output: Output) -> Any:
        """Features of preprocessed pixels, float32, both on the device."""
        if self._half is None:
            whole = self._run(pixels_B3SS, output, half=False)
            half = self._run(pixels_B3SS, output, half=True)
            self._half = agree(half, whole)
            if not self._half:
                _log.warning("features are computed in float32, because this encoder's differ in float16")
            return whole
        return self._run(pixels_B3SS, output, self._half)

    def _run(self, pixels_B3SS: Any, output: Output, half: bool) -> Any:
        import torch

        with torch.inference_mode(), torch.autocast(self._device.type, torch.float16, enabled=half):
            pooled, patches = self._encoder(pixels_B3SS)
        return (pooled if output == "pooled" else patches).float()
