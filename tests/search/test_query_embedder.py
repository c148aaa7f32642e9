"""One embedding for photos, words or both, with encoders whose order of work is seen."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from PIL import Image

from immr.errors import ImageError
from immr.search.query_embedder import QueryEmbedder
from immr.types import FloatArray, Region

PHOTO_D = np.array([1, 0, 0], dtype=np.float32)
TEXT_D = np.array([0, 1, 0], dtype=np.float32)
WAIT_S = 20.0


class Photos:
    """Embeds every photo as `PHOTO_D`, once the words are being encoded, if `wait_for` is given."""

    def __init__(self, wait_for: threading.Event | None = None, done: threading.Event | None = None) -> None:
        self._wait_for, self._done = wait_for, done

    def decode(self, photo: bytes, region: Region | None = None) -> Image.Image:
        if photo == b"broken":
            raise ImageError("this is not a picture")
        return Image.new("RGB", (len(photo), 1))

    def encode_with_texture(self, picture: Image.Image) -> tuple[FloatArray, FloatArray | None]:
        assert self._wait_for is None or self._wait_for.wait(WAIT_S), "the words are encoded afterwards"
        if self._done is not None:
            self._done.set()
        return PHOTO_D, np.full(2, picture.width, dtype=np.float32)


class Words:
    """Embeds every text as `TEXT_D`, once the photo is encoded, if `wait_for` is given."""

    def __init__(self, begun: threading.Event | None = None, wait_for: threading.Event | None = None) -> None:
        self._begun, self._wait_for = begun, wait_for

    def encode(self, text: str) -> FloatArray:
        if self._begun is not None:
            self._begun.set()
        assert self._wait_for is None or self._wait_for.wait(WAIT_S), "the photo is encoded afterwards"
        return TEXT_D


def test_photo_and_words_are_encoded_at_the_same_time() -> None:
    words_begun, photo_done = threading.Event(), threading.Event()
    embedder = QueryEmbedder(Photos(words_begun, photo_done), Words(words_begun, photo_done), text_weight=0.5)
    stage_ms: dict[str, float] = {}
    embedding_D, _ = embedder.embed([b"photo"], None, "blue", stage_ms)
    assert embedding_D == pytest.approx(np.array([0.5, 0.5, 0]) * 2**0.5)
    assert list(stage_ms) == ["decode", "encode"]


def test_the_weight_is_the_share_of_the_words() -> None:
    embedder = QueryEmbedder(Photos(), Words(), text_weight=0.25)
    expected = np.array([0.75, 0.25, 0]) / np.hypot(0.75, 0.25)
    assert embedder.embed([b"one", b"two"], None, "blue", {}).embedding_D == pytest.approx(expected)
    assert embedder.with_text(PHOTO_D, "blue", {}) == pytest.approx(expected)


def test_words_alone_and_photos_alone() -> None:
    embedder = QueryEmbedder(Photos(), Words(), text_weight=0.25)
    assert embedder.embed([], None, "blue", {}) == (TEXT_D, None)
    assert embedder.embed([b"photo"], None, "", {}).embedding_D == pytest.approx(PHOTO_D)
    without_texts = QueryEmbedder(Photos(), None, text_weight=0.25)
    assert without_texts.embed([b"photo"], None, "blue", {}).embedding_D == pytest.approx(PHOTO_D)
    assert without_texts.embed([], None, "blue", {}) == (None, None)


def test_textures_are_averaged() -> None:
    embedded = QueryEmbedder(Photos(), None, text_weight=0.0).embed([b"1", b"333"], None, "", {})
    assert embedded.texture_T == pytest.approx([2.0, 2.0])


def test_an_unreadable_photo_is_an_error_beside_words_as_well() -> None:
    with pytest.raises(ImageError):
        QueryEmbedder(Photos(), Words(), text_weight=0.25).embed([b"broken"], None, "blue", {})
