"""Frozen features of pictures: in torch on a GPU if there is one, else in OpenVINO on the CPU.

Shapes: B pictures, S image side in pixels, F image features, P patches.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from immr.model.encoders.graph import FrozenImageEncoder, Output, Square
from immr.model.model_recipe import ModelRecipe
from immr.types import FloatArray

_LARGEST_DIFFERENCE = 1e-3  # 1 − cosine, of features in float16
_log = logging.getLogger(__name__)


class FrozenEncoder(Protocol):
    """Pictures to features. `prepare` runs in any thread, `encode` in one."""

    @property
    def batch(self) -> int:
        """The best batch size."""

    @property
    def workers(self) -> int:
        """Threads that prefetch pictures; with 0, pictures are read between batches."""

    def prepare(self, picture: Image.Image) -> Square:
        """The input for an upright RGB picture."""

    def encode(self, squares: Sequence[Square], output: Output) -> FloatArray:
        """`pooled` (B, F) or `patches` (B, P, F)."""


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


class TorchEncoder:
    """Runs the encoder's module on a device, in float16 if its features are the same there.

    The first batch is also encoded in float32; if any of its features differs, later batches use float32.
    """

    batch = 256

    def __init__(self, recipe: ModelRecipe, weights: Path | None, device: Any, workers: int = 1):
        """Args:
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
        """(S, S, 3), whole levels."""
        return self._preprocessing.square(picture)

    def encode(self, squares: Sequence[Square], output: Output) -> FloatArray:
        """`pooled` (B, F) or `patches` (B, P, F)."""
        import torch

        count, stacked = len(squares), np.stack(squares)
        if count < self.batch and self._device.type == "cuda":  # one size, so kernels are chosen once
            stacked = np.pad(stacked, ((0, self.batch - count), (0, 0), (0, 0), (0, 0)))
        whole = torch.from_numpy(stacked)
        if self._device.type == "cuda":
            whole = whole.pin_memory()
        pixels = whole.to(self._device, non_blocking=True).permute(0, 3, 1, 2).float()
        pixels = pixels.sub_(self._preprocessing.mean).div_(self._preprocessing.std)
        features: FloatArray = self.features(pixels, output)[:count].cpu().numpy()
        return features

    def features(self, pixels_B3SS: Any, output: Output) -> Any:
        """Features of preprocessed pixels, float32, both on the device."""
        if self._half is None:
            whole = self._run(pixels_B3SS, output, half=False)
            half = self._run(pixels_B3SS, output, half=True)
            self._half = _largest_difference(half, whole) < _LARGEST_DIFFERENCE
            if not self._half:
                _log.warning("features are computed in float32, because this encoder's differ in float16")
            return whole
        return self._run(pixels_B3SS, output, self._half)

    def _run(self, pixels_B3SS: Any, output: Output, half: bool) -> Any:
        import torch

        with torch.inference_mode(), torch.autocast(self._device.type, torch.float16, enabled=half):
            pooled, patches = self._encoder(pixels_B3SS)
        return (pooled if output == "pooled" else patches).float()


def _largest_difference(found: Any, expected: Any) -> float:
    """1 − the smallest cosine; infinite if a value is not finite."""
    import torch
    import torch.nn.functional as F

    cosine = F.cosine_similarity(found.flatten(1), expected.flatten(1), dim=1)
    return float(torch.where(cosine.isfinite(), 1 - cosine, torch.inf).max())
