"""Step 1, encode: the ports of query encoders."""

from __future__ import annotations

from typing import Protocol

from PIL import Image

from immr.types import FloatArray, Region


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
