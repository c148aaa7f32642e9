"""The exported nodes against the same statistics in NumPy."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from immr.model.runtime import Graph
from immr.model.texture import TEXTURE, TEXTURE_DIM, texture_nodes
from immr.types import FloatArray

SIDE = 48


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    nodes, constants = texture_nodes()
    made = helper.make_graph(
        nodes,
        "texture",
        [helper.make_tensor_value_info("pixels", 1, ["batch", 3, "side", "side"])],
        [helper.make_tensor_value_info(TEXTURE, 1, ["batch", TEXTURE_DIM])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    path = tmp_path_factory.mktemp("graph") / "texture.onnx"
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return Graph(path)


def expected(pixels_3SS: FloatArray) -> np.ndarray:
    brightness, opponents = [0.3, 0.6, 0.1], [[0.7, -0.7, 0.0], [-0.35, -0.35, 0.7]]
    half_3SS = halved(pixels_3SS.astype(np.float64))
    colours_3SS = np.einsum("oc,chw->ohw", np.array([brightness, *opponents]), half_3SS)
    contrasts = [colours_3SS.std((1, 2))]
    mean_3 = colours_3SS.mean((1, 2))
    for _ in range(4):
        corner = colours_3SS[:, :-1, :-1]
        to_the_right, down = colours_3SS[:, :-1, 1:] - corner, colours_3SS[:, 1:, :-1] - corner
        squares = to_the_right**2 + down**2
        contrasts += [np.sqrt(squares.mean((1, 2))), np.sqrt(squares).mean((1, 2))]
        colours_3SS = halved(colours_3SS)
    return np.concatenate([mean_3, np.log(np.concatenate(contrasts) + 0.01)])


def halved(map_3SS: np.ndarray) -> np.ndarray:
    side = map_3SS.shape[-1] // 2
    return map_3SS[:, : 2 * side, : 2 * side].reshape(3, side, 2, side, 2).mean((2, 4))


def test_colours_and_contrasts(graph: Graph) -> None:
    pixels_B3SS = np.random.default_rng(0).uniform(-1, 1, (2, 3, SIDE, SIDE)).astype(np.float32)
    textures_BT = graph.run(TEXTURE, pixels_B3SS)
    assert textures_BT.shape == (2, TEXTURE_DIM)
    for texture_T, pixels_3SS in zip(textures_BT, pixels_B3SS, strict=True):
        assert texture_T == pytest.approx(expected(pixels_3SS), abs=1e-4)


def test_an_even_picture_has_a_texture(graph: Graph) -> None:
    texture_T = graph.run(TEXTURE, np.zeros((1, 3, SIDE, SIDE), dtype=np.float32))[0]
    assert texture_T[3:] == pytest.approx(np.log(0.01))
