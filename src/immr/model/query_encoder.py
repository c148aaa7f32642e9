"""A version's query encoder, as it serves: ONNX, without torch."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from immr.data.pictures import picture_files
from immr.data.pictures.region import cropped
from immr.model.model_card import QUERY_ENCODER, Card
from immr.model.runtime import Graph
from immr.model.texture import TEXTURE
from immr.types import FloatArray, Region

_LARGEST_MAGNIFICATION = 4.0
"""A smaller region is enlarged from fewer pixels, rather than decoded at a size that takes much memory."""


class OnnxQueryEncoder:
    """Turns photos into embeddings, with the files of a version's folder."""

    def __init__(self, folder: Path, threads: int = 1, at_once: int = 1):
        """Each encoding uses `threads` threads, and `at_once` encodings run in parallel; see `Graph`."""
        self.card = Card.read(folder)
        self._graph = Graph(folder / QUERY_ENCODER, threads, at_once, sizes=(1,), in_bfloat16=True)
        self._whole = threading.Lock()

    @property
    def image_size_px(self) -> int:
        """Side of the square input."""
        return self.card.preprocessing.image_size_px

    def decode(self, photo: bytes, region: Region | None = None) -> Image.Image:
        """The picture, or a region of it, in the form that `encode` takes.

        Memory is bounded: large pictures that cannot be decoded at a reduced size are decoded one at a time.

        Raises:
            ImageError: the bytes are not a readable picture.
        """
        enough_px = self.card.preprocessing.enough_px
        if region is None:
            return picture_files.decode(photo, enough_px, whole=self._whole)
        magnified = min(1 / max(region.width, region.height), _LARGEST_MAGNIFICATION)
        picture = picture_files.decode(photo, round(enough_px * magnified), whole=self._whole)
        return cropped(picture, region)

    def encode(self, pictures: Sequence[Image.Image]) -> FloatArray:
        """(N, D) unit rows from upright RGB pictures; thread-safe."""
        rows = [self.embed(self.card.preprocessing.apply(picture)[None]) for picture in pictures]
        return np.concatenate([np.zeros((0, self.card.model.embedding_dim), dtype=np.float32), *rows])

    def encode_with_texture(self, picture: Image.Image) -> tuple[FloatArray, FloatArray | None]:
        """(D,) unit vector and the texture (T,) of a picture; None for a version exported by an earlier release."""
        outputs = ("embedding", TEXTURE) if TEXTURE in self._graph.outputs else ("embedding",)
        pixels_13SS = self.card.preprocessing.apply(picture)[None]
        embedding_1D, *textures = self._graph.run_for(outputs, {"pixels": pixels_13SS})
        return embedding_1D[0], textures[0][0] if textures else None

    def embed(self, pixels_B3SS: FloatArray) -> FloatArray:
        """(B, D) unit rows from preprocessed pixels; one by one, because a batch is not faster."""
        return np.concatenate([self._graph.run("embedding", row_3SS[None]) for row_3SS in pixels_B3SS])
