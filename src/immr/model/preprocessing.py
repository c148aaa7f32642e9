"""From a picture to the encoder's input; the same code in training, evaluation and serving."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from immr.storage import fingerprint
from immr.types import FloatArray

READING = "srgb-enough-fit-bicubic-3"
"""How pictures are read and fitted: in the name of all that is made from them, and changes with the code."""


@dataclass(frozen=True)
class Preprocessing:
    """Fit the short side, crop the centre, scale to (x − mean) / std with x in 0…255."""

    image_size_px: int
    mean: float = 127.0
    std: float = 128.0

    def apply(self, image: Image.Image) -> FloatArray:
        """(3, S, S) float32 from an upright RGB picture."""
        square = ImageOps.fit(image, (self.image_size_px, self.image_size_px), Image.Resampling.BICUBIC)
        pixels_CHW = np.asarray(square).transpose(2, 0, 1).astype(np.float32, order="C")
        pixels_CHW -= self.mean
        pixels_CHW /= self.std
        return pixels_CHW

    @property
    def enough_px(self) -> int:
        """A picture's short side beyond which more pixels change nothing to speak of: twice what is kept.

        Training, evaluation and serving read pictures with `images.decode(…, enough_px)`.
        """
        return 2 * self.image_size_px

    @property
    def hash(self) -> str:
        """Changes whenever the same photo would be encoded from other numbers."""
        return fingerprint.of_values(READING, self)[:16]
