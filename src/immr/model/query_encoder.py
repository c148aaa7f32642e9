"""A version's query encoder as it serves, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from immr.model.card import QUERY_ENCODER, Card
from immr.model.runtime import Graph
from immr.types import FloatArray


class OnnxQueryEncoder:
    """Photos to embeddings with the files of a version's folder."""

    def __init__(self, folder: Path, threads: int = 1, at_once: int = 1):
        """`threads` of one encoding, and how many encodings run `at_once`; see `Graph`."""
        self.card = Card.read(folder)
        self._graph = Graph(folder / QUERY_ENCODER, threads, at_once, batch=1, reduced=True)

    @property
    def image_size_px(self) -> int:
        """The side of the square that it takes."""
        return self.card.preprocessing.image_size_px

    def encode(self, images: Sequence[Image.Image]) -> FloatArray:
        """(N, D) with unit rows from upright RGB pictures; safe to call from several threads."""
        rows = [self.embed(self.card.preprocessing.apply(image)[None]) for image in images]
        return np.concatenate([np.zeros((0, self.card.model.embedding_dim), dtype=np.float32), *rows])

    def embed(self, pixels_B3SS: FloatArray) -> FloatArray:
        """(B, D) with unit rows from what preprocessing gives; one by one, since a batch is no faster."""
        return np.concatenate([self._graph.run("embedding", row_3SS[None]) for row_3SS in pixels_B3SS])
