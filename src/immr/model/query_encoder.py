"""A version's query encoder as it serves: ONNX Runtime, no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from immr.model.card import QUERY_ENCODER, Card
from immr.model.encoder_graph import session
from immr.types import FloatArray

_BATCH = 16


class OnnxQueryEncoder:
    """Photos to embeddings with the files of a version's folder."""

    def __init__(self, folder: Path, threads: int = 1):
        self.card = Card.read(folder)
        self._session = session(folder / QUERY_ENCODER, threads)

    @property
    def image_size_px(self) -> int:
        """The side of the square that it takes."""
        return self.card.preprocessing.image_size_px

    def encode(self, images: Sequence[Image.Image]) -> FloatArray:
        """(N, D) with unit rows from upright RGB pictures; safe to call from several threads."""
        parts = [self._encode(images[start : start + _BATCH]) for start in range(0, len(images), _BATCH)]
        return np.concatenate([np.zeros((0, self.card.model.embedding_dim), dtype=np.float32), *parts])

    def _encode(self, images: Sequence[Image.Image]) -> FloatArray:
        return self.embed(np.stack([self.card.preprocessing.apply(image) for image in images]))

    def embed(self, pixels_B3SS: FloatArray) -> FloatArray:
        """(B, D) with unit rows from what preprocessing gives."""
        embeddings_BD: FloatArray = self._session.run(["embedding"], {"pixels": pixels_B3SS})[0]
        return embeddings_BD
