"""Exports encoder and query tower as one ONNX graph, float32.

Graph: `pixels` (B, 3, S, S) → `embedding` (B, D), `texture` (B, T).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from immr.errors import TrainingError
from immr.model.encoders.onnx_graph import OPSET, encoder_graph
from immr.model.model_card import QUERY_ENCODER, tuned_weights
from immr.model.model_recipe import ModelRecipe
from immr.model.runtime import Graph
from immr.model.texture import TEXTURE, TEXTURE_DIM, texture_nodes
from immr.model.towers import Part, QueryTower

TOLERANCE = 1e-4
_CHECKED_IMAGES = 4
_SMALLEST_NORM = 1e-12  # as in torch.nn.functional.normalize


def export_query_encoder(recipe: ModelRecipe, tower: QueryTower, folder: Path, cache_dir: Path) -> float:
    """Write `query_encoder.onnx` into `folder`, with the encoder of its `image_encoder.pt` if it has one.

    Standardization is folded into the projection. The tower is appended to the graph that computes the documents'
    features, so queries and documents share one encoder and nothing is traced twice.

    Returns:
        The largest absolute difference from torch, on random pictures.

    Raises:
        TrainingError: The graph's embeddings differ from torch's by more than `TOLERANCE`.
    """
    import onnx

    weights = tuned_weights(folder)
    graph = encoder_graph(recipe, cache_dir, weights)
    encoder = onnx.load(graph)
    tower.eval()
    model = _with_tower(encoder, tower.parts())
    path = folder / QUERY_ENCODER
    onnx.save(model, path)
    difference = _difference_to_torch(recipe, tower, path, weights)
    if not difference <= TOLERANCE:
        raise TrainingError(
            f"the exported query encoder differs from torch by {difference:.2g}, more than {TOLERANCE:.0e}: "
            f"delete {graph} and train again"
        )
    return difference


def _with_tower(encoder: Any, parts: Sequence[Part]) -> Any:
    """The encoder's graph from pixels to the embedding, and to the texture."""
    from onnx import checker, compose, helper

    tower = helper.make_model(
        _tower_graph(parts), opset_imports=[helper.make_opsetid("", OPSET)], ir_version=encoder.ir_version
    )
    merged = compose.merge_models(  # an encoder may have an inner edge "embedding", as CLIP has
        compose.add_prefix(encoder, "encoder/", rename_inputs=False, rename_outputs=False, inplace=True),
        compose.add_prefix(tower, "tower/", rename_inputs=False, rename_outputs=False),
        io_map=[("pooled", "features")],
        outputs=["embedding"],
    )
    add_texture(merged)
    checker.check_model(merged)
    return merged


def _tower_graph(parts: Sequence[Part]) -> Any:
    """From the encoder's features to the embedding: norm([norm(affine) × √share of each part])."""
    from onnx import helper, numpy_helper

    constants: dict[str, Any] = {
        "smallest_norm": np.array(_SMALLEST_NORM, dtype=np.float32),
        "last_axis": np.array([-1], dtype=np.int64),
    }
    nodes = []
    for number, part in enumerate(parts):
        constants |= {
            f"weight_{number}": part.affine.weight_DF.numpy(),
            f"bias_{number}": part.affine.bias_D.numpy(),
            f"root_share_{number}": np.array(part.share**0.5, dtype=np.float32),
        }
        projection = ["features", f"weight_{number}", f"bias_{number}"]
        nodes += [
            helper.make_node("Gemm", projection, [f"projected_{number}"], transB=1),
            *_normalized(f"projected_{number}", f"unit_{number}"),
            helper.make_node("Mul", [f"unit_{number}", f"root_share_{number}"], [f"part_{number}"]),
        ]
    nodes.append(
        helper.make_node("Concat", [f"part_{number}" for number in range(len(parts))], ["joined"], axis=1)
    )
    nodes += _normalized("joined", "embedding")
    feature_dim = parts[0].affine.weight_DF.shape[1]
    dim = sum(len(part.affine.bias_D) for part in parts)
    return helper.make_graph(
        nodes,
        "query_tower",
        [helper.make_tensor_value_info("features", _FLOAT, ["batch", feature_dim])],
        [helper.make_tensor_value_info("embedding", _FLOAT, ["batch", dim])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )


def add_texture(model: Any) -> None:
    """Give a graph whose input is `pixels` its second output, `texture`."""
    from onnx import compose, helper, numpy_helper

    nodes, constants = texture_nodes()
    output = helper.make_tensor_value_info(TEXTURE, _FLOAT, ["batch", TEXTURE_DIM])
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, TEXTURE, model.graph.input, [output], tensors)
    compose.add_prefix_graph(graph, f"{TEXTURE}/", rename_inputs=False, rename_outputs=False, inplace=True)
    model.graph.node.extend(graph.node)
    model.graph.initializer.extend(graph.initializer)
    model.graph.output.append(output)


def _normalized(source: str, target: str) -> list[Any]:
    """Nodes that scale the rows of `source` to unit length."""
    from onnx import helper

    return [
        helper.make_node("ReduceL2", [source, "last_axis"], [f"{source}_norm"], keepdims=1),
        helper.make_node("Max", [f"{source}_norm", "smallest_norm"], [f"{source}_safe_norm"]),
        helper.make_node("Div", [source, f"{source}_safe_norm"], [target]),
    ]


_FLOAT = 1  # onnx.TensorProto.FLOAT


def _difference_to_torch(recipe: ModelRecipe, tower: QueryTower, path: Path, weights: Path | None) -> float:
    import torch

    from immr.model.encoders.by_name import load_image_encoder

    generator = np.random.default_rng(0)
    shape = (_CHECKED_IMAGES, 3, recipe.image_size_px, recipe.image_size_px)
    pixels_B3SS = generator.uniform(-1, 1, shape).astype(np.float32)
    encoder = load_image_encoder(recipe.image_encoder, recipe.image_size_px, weights)
    with torch.inference_mode():
        expected_BD = tower(encoder(torch.from_numpy(pixels_B3SS))[0]).numpy()
    exported_BD = Graph(path).run("embedding", pixels_B3SS)
    return float(np.abs(exported_BD - expected_BD).max())
