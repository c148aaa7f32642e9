"""The image encoder as an ONNX graph, so that training and serving compute the same features.

Graph: `pixels` (B, 3, S, S) float32 → `pooled` (B, F), `patches` (B, P, C). On a CPU, OpenVINO runs it several
times faster than eager torch. The exported query encoder is this graph followed by the query tower.

`weights` is the state of a fine-tuned encoder (a version's `image_encoder.pt`), or None for the pretrained
one. Cached graphs and features are named by a hash of the weights, so different weights never mix.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from immr.model.model_recipe import ModelRecipe
from immr.model.runtime import Graph
from immr.storage import fingerprint
from immr.storage.atomic import write_atomically
from immr.types import FloatArray

Output = Literal["pooled", "patches"]
Square = npt.NDArray[np.uint8] | FloatArray
"""A preprocessed picture, as one of the frozen encoders takes it."""

OPSET = 20
_EXPORTERS_LOGGERS = ("torch.onnx._internal.exporter._registration", "onnx_ir")
_POOLING = "power-normalized-head-and-stage-statistics-1"


def encoder_graph(recipe: ModelRecipe, cache_dir: Path, weights: Path | None = None) -> Path:
    """The graph's file, exported on first use and cached under `cache_dir`."""
    from immr.model.encoders.by_name import image_encoder_spec

    spec = image_encoder_spec(recipe.image_encoder)
    path = cache_dir / "encoders" / f"{spec.name}-{recipe.image_size_px}-{frozen_hash(recipe, weights)}.onnx"
    if not path.is_file():
        write_atomically(path, _export(recipe, weights))
    return path


class FrozenImageEncoder:
    """Runs the graph with `threads` threads; see `frozen.FrozenEncoder`."""

    batch, workers = 16, 0

    def __init__(self, recipe: ModelRecipe, cache_dir: Path, threads: int = 1, weights: Path | None = None):
        from immr.model.encoders.by_name import preprocessing_of

        self._preprocessing = preprocessing_of(recipe)
        self._graph = Graph(encoder_graph(recipe, cache_dir, weights), threads)

    def prepare(self, picture: Image.Image) -> Square:
        """(3, S, S), float32."""
        return self._preprocessing.apply(picture)

    def collate(self, squares: Sequence[Square]) -> FloatArray:
        """(B, 3, S, S)."""
        pixels_B3SS: FloatArray = np.stack(squares)
        return pixels_B3SS

    def encode(self, squares: Sequence[Square] | FloatArray, output: Output) -> FloatArray:
        """`pooled` (B, F) or `patches` (B, P, F)."""
        return self._graph.run(output, np.asarray(squares, dtype=np.float32))


def frozen_hash(recipe: ModelRecipe, weights: Path | None = None) -> str:
    """Hash of everything that determines image features: weights, preprocessing and pooling."""
    from immr.model.encoders.by_name import image_encoder_spec, preprocessing_of

    spec = image_encoder_spec(recipe.image_encoder)
    tuned = [fingerprint.of_file(weights)] if weights else []
    return fingerprint.of_values(_POOLING, spec.hash, preprocessing_of(recipe).hash, *tuned)[:16]


def _export(recipe: ModelRecipe, weights: Path | None) -> bytes:
    import torch

    from immr.model.encoders.by_name import load_image_encoder

    encoder = load_image_encoder(recipe.image_encoder, recipe.image_size_px, weights)
    side = recipe.image_size_px
    pixels_B3SS = torch.from_numpy(np.zeros((2, 3, side, side), dtype=np.float32))
    with _quiet_exporter(), tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch.export warns about its own tree specs
        warnings.simplefilter("ignore", DeprecationWarning)
        path = Path(folder) / "encoder.onnx"
        torch.onnx.export(
            encoder,
            (pixels_B3SS,),
            path,
            input_names=["pixels"],
            output_names=["pooled", "patches"],
            dynamic_shapes={"pixels_B3SS": {0: torch.export.Dim("batch", min=1)}},
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        return path.read_bytes()


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """The exporter warns that torchvision is missing, which nothing needs, and lists duplicate constants."""
    loggers = [logging.getLogger(name) for name in _EXPORTERS_LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
