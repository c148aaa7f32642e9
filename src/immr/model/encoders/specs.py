"""Specs of encoders: what is known before their weights are read."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from immr.errors import RecipeError
from immr.model.preprocessing import Preprocessing
from immr.storage import fingerprint

_TEXT_FILES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "tokenizer.json")


@dataclass(frozen=True)
class ImageEncoderSpec:
    """An image encoder: pixels to pooled features (B, F) and patch features (B, P, C)."""

    name: str
    weights: Path
    dim: int  # F, of the pooled features
    patch_dim: int  # C, of the patch features
    stride: int  # in pixels; a picture of side S has (S / stride)² patches
    mean: float  # of the input: (pixel − mean) / std, pixels in 0…255
    std: float

    def preprocessing(self, image_size_px: int) -> Preprocessing:
        """How to turn a picture into this encoder's input."""
        return Preprocessing(image_size_px=image_size_px, mean=self.mean, std=self.std)

    @property
    def hash(self) -> str:
        """Changes with the name and the content of the weights."""
        return fingerprint.of_values(self.name, _content_of(self.weights))[:16]


@dataclass(frozen=True)
class TextEncoderSpec:
    """A text encoder: texts to token features (B, T, E)."""

    name: str
    folder: Path  # in Hugging Face layout
    dim: int  # E

    @property
    def weights_bytes(self) -> int:
        """The size of the weights on disk."""
        weights = [*self.folder.glob("*.safetensors")] or [*self.folder.glob("pytorch_model*.bin")]
        return sum(file.stat().st_size for file in weights)

    @property
    def hash(self) -> str:
        """Changes with the name and the content of weights and tokenizer."""
        files = [self.folder / file for file in _TEXT_FILES if (self.folder / file).is_file()]
        return fingerprint.of_values(self.name, *map(_content_of, files))[:16]


def _content_of(file: Path) -> str:
    """The hash of a file, which is read again only if it has changed: each changed item needs it."""
    state = file.stat()
    return _hashed(file, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=16)
def _hashed(file: Path, size: int, mtime_ns: int) -> str:
    return fingerprint.of_file(file)


def package_folder(module: str, distribution: str) -> Path:
    """The folder of an installed package, found without importing it: some import far more than weights.

    Raises:
        RecipeError: the package is not installed.
    """
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise RecipeError(f"the package {distribution} is not installed: run `pip install {distribution}`")
    return Path(found.origin).parent
