"""The query tower as one ONNX file, encoder included: `pixels` (B, 3, S, S) → `embedding` (B, D), float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from immr.errors import TrainingError
from immr.model.card import QUERY_ENCODER
from immr.model.encoder_graph import OPSET, encoder_graph, session
from immr.model.recipe import ModelRecipe
from immr.model.towers import Affine, QueryTower

TOLERANCE = 1e-4
_CHECKED_IMAGES = 4
_SMALLEST_NORM = 1e-12  # as in torch.nn.functional.normalize


def export_query_encoder(recipe: ModelRecipe, tower: QueryTower, folder: Path, cache_dir: Path) -> float:
    """Write `query_encoder.onnx` into `folder`.

    Standardization is folded into the projection, and the tower is set behind the graph that computed the
    frozen features: it needs no second trace, and serves the very numbers that were trained on.

    Returns:
        The largest absolute difference to torch, over random pictures.

    Raises:
        TrainingError: it is larger than `TOLERANCE`.
    """
    import onnx

    encoder = onnx.load(encoder_graph(recipe, cache_dir))
    tower.eval()
    model = _with_tower(encoder, tower.transform.folded())
    path = folder / QUERY_ENCODER
    onnx.save(model, path)
    difference = _difference_to_torch(recipe, tower, path)
    if not difference <= TOLERANCE:
        raise TrainingError(
            f"the exported query encoder differs from torch by {difference:.2g}, more than {TOLERANCE:.0e}: "
            f"remove {encoder_graph(recipe, cache_dir)} and train again"
        )
    return difference


def _with_tower(encoder: Any, affine: Affine) -> Any:
    from onnx import checker, compose, helper, numpy_helper

    constants = {
        "weight_DF": affine.weight_DF.numpy(),
        "bias_D": affine.bias_D.numpy(),
        "smallest_norm": np.array(_SMALLEST_NORM, dtype=np.float32),
        "last_axis": np.array([-1], dtype=np.int64),
    }
    dim, feature_dim = affine.weight_DF.shape
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["features", "weight_DF", "bias_D"], ["projected"], transB=1),
            helper.make_node("ReduceL2", ["projected", "last_axis"], ["norm"], keepdims=1),
            helper.make_node("Max", ["norm", "smallest_norm"], ["safe_norm"]),
            helper.make_node("Div", ["projected", "safe_norm"], ["embedding"]),
        ],
        "query_tower",
        [helper.make_tensor_value_info("features", _FLOAT, ["batch", feature_dim])],
        [helper.make_tensor_value_info("embedding", _FLOAT, ["batch", dim])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    head = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=encoder.ir_version
    )
    merged = compose.merge_models(
        encoder,
        compose.add_prefix(head, "tower/", rename_inputs=False, rename_outputs=False),
        io_map=[("pooled", "features")],
        outputs=["embedding"],
    )
    checker.check_model(merged)
    return merged


_FLOAT = 1  # onnx.TensorProto.FLOAT


def _difference_to_torch(recipe: ModelRecipe, tower: QueryTower, path: Path) -> float:
    import torch

    from immr.model.encoders import load_image_encoder

    generator = np.random.default_rng(0)
    shape = (_CHECKED_IMAGES, 3, recipe.image_size_px, recipe.image_size_px)
    pixels_B3SS = generator.uniform(-1, 1, shape).astype(np.float32)
    encoder = load_image_encoder(recipe.image_encoder, recipe.image_size_px)
    with torch.inference_mode():
        expected_BD = tower(encoder(torch.from_numpy(pixels_B3SS))[0]).numpy()
    exported_BD = session(path, threads=1).run(["embedding"], {"pixels": pixels_B3SS})[0]
    return float(np.abs(exported_BD - expected_BD).max())
