"""Step 1, encode: one embedding for what a query has, photos or words or both.

The words of a photo are encoded while the photo is decoded and encoded: the two need nothing from each other.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple, Protocol

import numpy as np
from PIL import Image

from immr.machine import cores
from immr.types import FloatArray, Region

_SMALLEST_NORM = 1e-6


class QueryEncoder(Protocol):
    """Turns photos into embeddings; `immr.model.query_encoder.OnnxQueryEncoder` implements it."""

    def decode(self, photo: bytes, region: Region | None = None) -> Image.Image:
        """The picture, or a region of it, in the form that `encode` takes.

        Raises:
            ImageError: the bytes are not a readable picture.
        """

    def encode_with_texture(self, picture: Image.Image) -> tuple[FloatArray, FloatArray | None]:
        """(D,) unit vector and the texture (T,) of an upright RGB picture; None if the version has no textures."""


class TextEncoder(Protocol):
    """Turns words into embeddings of the same space; `immr.model.text_query_encoder.TextQueryEncoder` does."""

    def encode(self, text: str) -> FloatArray:
        """(D,) unit vector."""


class Embedded(NamedTuple):
    """A query as the encoders see it."""

    embedding_D: FloatArray | None  # unit vector; None for words that are not embedded
    texture_T: FloatArray | None = None  # of its photos; None without photos or textures


class QueryEmbedder:
    """Embeds queries. As thread-safe as its encoders."""

    def __init__(self, encoder: QueryEncoder, texts: TextEncoder | None, text_weight: float) -> None:
        """`texts=None` leaves words out of embeddings; `text_weight` is their share beside a photo or an item."""
        self._encoder = encoder
        self._texts = texts
        self._text_weight = text_weight
        self._beside = ThreadPoolExecutor(cores.usable(), thread_name_prefix="words")

    def decode(self, photo: bytes, region: Region | None = None) -> Image.Image:
        """A photo, or a part of it.

        Raises:
            ImageError: the bytes are not a readable picture.
        """
        return self._encoder.decode(photo, region)

    def embed(
        self, photos: Sequence[bytes], region: Region | None, text: str, stage_ms: dict[str, float]
    ) -> Embedded:
        """The embedding of photos of one thing, of a text, or of both.

        Args:
            photos: their embeddings and textures are averaged.
            region: the part of each photo; None is all of it.
            text: may be empty.
            stage_ms: takes the time of `decode` and `encode`.

        Raises:
            ImageError: the bytes are not a readable picture.
        """
        if not photos:
            return Embedded(self.with_text(None, text, stage_ms))
        text_D = self._encoding(text)
        with timed(stage_ms, "decode"):
            pictures = [self.decode(photo, region) for photo in photos]
        with timed(stage_ms, "encode"):
            encoded = [self._encoder.encode_with_texture(picture) for picture in pictures]
            embedding_D = _mean(np.stack([row_D for row_D, _ in encoded]))
            textures = [texture_T for _, texture_T in encoded if texture_T is not None]
            if text_D is not None:
                embedding_D = self._sum(embedding_D, text_D.result())
        return Embedded(embedding_D, np.mean(textures, axis=0) if textures else None)

    def with_text(
        self, embedding_D: FloatArray | None, text: str, stage_ms: dict[str, float]
    ) -> FloatArray | None:
        """The text's embedding, or its weighted sum with an item's."""
        if self._texts is None or not text:
            return embedding_D
        with timed(stage_ms, "encode"):
            text_D = self._texts.encode(text)
        return text_D if embedding_D is None else self._sum(embedding_D, text_D)

    def _encoding(self, text: str) -> Future[FloatArray] | None:
        return self._beside.submit(self._texts.encode, text) if self._texts is not None and text else None

    def _sum(self, embedding_D: FloatArray, text_D: FloatArray) -> FloatArray:
        weight = self._text_weight
        return _unit((1 - weight) * embedding_D + weight * text_D, embedding_D)


def _mean(embeddings_ND: FloatArray) -> FloatArray:
    """The unit vector in the direction of the mean of unit rows; the first row if they cancel out."""
    return _unit(embeddings_ND.mean(axis=0), embeddings_ND[0]) if len(embeddings_ND) > 1 else embeddings_ND[0]


def _unit(sum_D: FloatArray, otherwise_D: FloatArray) -> FloatArray:
    """The normalized sum; the other vector if the summands cancel out."""
    norm = float(np.linalg.norm(sum_D))
    unit_D: FloatArray = sum_D / np.float32(norm) if norm > _SMALLEST_NORM else otherwise_D
    return unit_D.astype(np.float32)


@contextmanager
def timed(stage_ms: dict[str, float], stage: str) -> Iterator[None]:
    """Adds the time that the block takes to a stage."""
    start = time.perf_counter()
    yield
    stage_ms[stage] = stage_ms.get(stage, 0.0) + 1000 * (time.perf_counter() - start)
