"""From a picture to the encoder's input: the same code in training, evaluation and serving."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from immr.model.framing import WORKING_PX, framed
from immr.model.model_recipe import FramingName
from immr.storage import fingerprint
from immr.types import FloatArray

READING = "srgb-enough-fit-bicubic-3"
"""Version of the code that reads and fits pictures. Part of every hash of what is computed from them."""


@dataclass(frozen=True)
class Preprocessing:
    """Crop to the centre or to a drawing's ink, resize, scale to (x − mean) / std for pixels x in 0…255."""

    image_size_px: int
    mean: float = 127.0
    std: float = 128.0
    framing: FramingName = "centre"

    def apply(self, image: Image.Image) -> FloatArray:
        """(3, S, S) float32 from an upright RGB picture."""
        pixels_CHW = self.square(image).transpose(2, 0, 1).astype(np.float32, order="C")
        pixels_CHW -= self.mean
        pixels_CHW /= self.std
        return pixels_CHW

    def square(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        """(S, S, 3), before its values are scaled."""
        side = self.image_size_px
        if self.framing == "drawing":
            return np.asarray(framed(image, side))
        return np.asarray(ImageOps.fit(image, (side, side), Image.Resampling.BICUBIC))

    @property
    def enough_px(self) -> int:
        """Short side at which decoding may stop, because more pixels hardly change the result.

        It is twice the input size, and for drawings at least the size that framing needs. Training, evaluation and
        serving all read pictures with `picture_files.decode(…, enough_px)`.
        """
        return max(2 * self.image_size_px, WORKING_PX if self.framing == "drawing" else 0)

    @property
    def hash(self) -> str:
        """Changes whenever the same photo would give a different input."""
        return fingerprint.of_values(READING, self)[:16]
