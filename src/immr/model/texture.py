"""The texture of a picture: its colours, and its contrasts at four scales, whatever the picture shows (ours).

A fine-tuned encoder forgets what makes a photo a photo, because its task never asks. The texture is computed from the
pixels, so training cannot change it: drawings and blank pictures differ from photos here. It is a second output of
the exported query encoder, for any encoder.

Nodes: `pixels` (B, 3, S, S), S of 32 at least → `texture` (B, `TEXTURE_DIM`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

TEXTURE = "texture"
"""Name of the graph's output; query encoders of earlier releases have none."""

_SCALES = 4  # from half the pixels a side; all pixels take longer, and found no more (docs/log.md, groceries)
_COLOURS = ((0.3, 0.6, 0.1), (0.7, -0.7, 0.0), (-0.35, -0.35, 0.7))  # brightness, red − green, blue − yellow
TEXTURE_DIM = 3 * (2 + 2 * _SCALES)

# of a contrast, below one grey level of 256 in any encoder's scale; a logarithm needs a bound
_SMALLEST = 0.01
_END = np.iinfo(np.int64).max
# start and stop of rows and columns: pixels that have both neighbours, their right neighbours, those below
_CUTS = {"corner": ((0, 0), (-1, -1)), "right": ((0, 1), (-1, _END)), "below": ((1, 0), (_END, -1))}


def texture_nodes() -> tuple[list[Any], dict[str, Any]]:
    """ONNX nodes that compute `texture`, and their constants by name.

    For each colour: mean and deviation, then for each scale the root mean square and the mean of the gradient's
    length. All but the means are logarithms, because contrasts differ by factors.
    """
    from onnx import helper

    colours = np.array(_COLOURS, dtype=np.float32)[:, :, None, None]
    constants = {
        "colours": np.tile(colours / 4, (2, 2)),  # means of 2 × 2 pixels
        "places": np.array([2, 3], dtype=np.int64),
        "smallest": np.array(_SMALLEST, dtype=np.float32),
    }
    for name, (first, stop) in _CUTS.items():
        constants[f"{name}_first"] = np.array(first, dtype=np.int64)
        constants[f"{name}_stop"] = np.array(stop, dtype=np.int64)
    make = helper.make_node
    nodes = [
        make("Conv", ["pixels", "colours"], ["scale_0"], strides=[2, 2]),
        make("ReduceMean", ["scale_0", "places"], ["mean_colours"], keepdims=1),
        make("Sub", ["scale_0", "mean_colours"], ["centred"]),
        make("Mul", ["centred", "centred"], ["centred_squares"]),
        *_root_of_mean("centred_squares", "deviation"),
    ]
    contrasts = ["deviation"]
    for scale in range(_SCALES):
        nodes += [
            *_squared_gradient(scale),
            *_root_of_mean(f"squares_{scale}", f"root_{scale}"),
            make("Sqrt", [f"squares_{scale}"], [f"length_{scale}"]),
            make("ReduceMean", [f"length_{scale}", "places"], [f"mean_{scale}"], keepdims=0),
        ]
        contrasts += [f"root_{scale}", f"mean_{scale}"]
        if scale + 1 < _SCALES:
            nodes.append(_halved(f"scale_{scale}", f"scale_{scale + 1}"))
    nodes += [
        make("ReduceMean", ["scale_0", "places"], ["colour"], keepdims=0),
        make("Concat", contrasts, ["contrasts"], axis=1),
        make("Add", ["contrasts", "smallest"], ["bounded"]),
        make("Log", ["bounded"], ["logarithms"]),
        make("Concat", ["colour", "logarithms"], [TEXTURE], axis=1),
    ]
    return nodes, constants


def _halved(source: str, target: str) -> Any:
    from onnx import helper

    return helper.make_node("AveragePool", [source], [target], kernel_shape=[2, 2], strides=[2, 2])


def _squared_gradient(scale: int) -> list[Any]:
    """The sum of both squared differences to the next pixels; slices are faster than a grouped convolution."""
    from onnx import helper

    make, source = helper.make_node, f"scale_{scale}"
    nodes = [
        make("Slice", [source, f"{name}_first", f"{name}_stop", "places"], [f"{name}_{scale}"])
        for name in _CUTS
    ]
    for name in ("right", "below"):
        step = f"step_{name}_{scale}"
        nodes += [
            make("Sub", [f"{name}_{scale}", f"corner_{scale}"], [step]),
            make("Mul", [step, step], [f"{step}_squared"]),
        ]
    both = [f"step_{name}_{scale}_squared" for name in ("right", "below")]
    return [*nodes, make("Add", both, [f"squares_{scale}"])]


def _root_of_mean(source: str, target: str) -> list[Any]:
    from onnx import helper

    return [
        helper.make_node("ReduceMean", [source, "places"], [f"{target}_square"], keepdims=0),
        helper.make_node("Sqrt", [f"{target}_square"], [target]),
    ]
