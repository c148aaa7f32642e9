import itertools
import logging

import pytest
import torch
from torch import nn

from immr.model.encoders.by_name import load_image_encoder
from immr.train.inputs.compiled_encoder import compiled
from immr.train.optimization.layer_rates import encoder_groups
from tests.support import tiny_encoders


@pytest.fixture(autouse=True)
def nothing_is_compiled_yet() -> None:
    """A test does not use what another compiled."""
    torch.compiler.reset()


class Layer(nn.Module):
    """torch compiles no module of its own by itself."""

    def __init__(self, before: int, after: int):
        super().__init__()
        self.project = nn.Linear(before, after)

    def forward(self, pixels):
        return self.project(pixels).relu()


class Encoder(nn.Module):
    """Three equal layers, as a transformer has, or different ones."""

    def __init__(self, widths: tuple[int, ...]):
        super().__init__()
        self.layers = nn.ModuleList(Layer(before, after) for before, after in itertools.pairwise(widths))

    def forward(self, pixels):
        for layer in self.layers:
            pixels = layer(pixels)
        return pixels.mean((1, 2)), pixels


@pytest.mark.parametrize("widths", [(8, 8, 8, 8), (8, 6, 4)])
def test_a_compiled_encoder_computes_the_same(widths):
    encoder, pixels = Encoder(widths), torch.randn(2, 3, 4, 8)
    expected = encoder(pixels)[0]
    faster = compiled(encoder, pixels, in_bfloat16=False, backend="aot_eager")
    torch.testing.assert_close(faster(pixels)[0], expected)
    assert all(parameter.grad is None for parameter in encoder.parameters())


@pytest.mark.parametrize("widths", [(8, 8, 8, 8), (8, 6, 4)])
def test_an_encoder_that_does_not_compile_runs_as_it_is(widths, caplog):
    def refuse(graph, inputs):
        raise RuntimeError("no compiler")

    encoder, pixels = Encoder(widths), torch.randn(2, 3, 4, 8)
    with caplog.at_level(logging.WARNING, logger="immr"):
        slower = compiled(encoder, pixels, in_bfloat16=False, backend=refuse)
    assert "no compiler" in caplog.text and "slower" in caplog.text
    torch.testing.assert_close(slower(pixels)[0], encoder(pixels)[0])


@pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor that is not a leaf"
)  # by torch's compiler
@pytest.mark.parametrize("kind", ["efficientnet-lite0", "dinov2", "convnext"])
def test_an_encoder_with_its_backward_pass_is_one_graph_for_all_steps(kind, tmp_path, caplog):
    torch.set_num_threads(1)
    name = kind if kind.startswith("efficientnet") else tiny_encoders.image_model(kind, tmp_path)
    encoder = load_image_encoder(name, tiny_encoders.SIDE)
    # behind frozen layers, those of a transformer have one more graph: their input has no gradient
    frozen = 1 if kind == "efficientnet-lite0" else 0
    encoder_groups(encoder, share=1.0, decay=1.0, frozen_stages=frozen, weight_decay=0.0)
    with torch._dynamo.config.patch(error_on_recompile=True):
        with caplog.at_level(logging.WARNING, logger="immr"):
            faster = compiled(encoder, _pixels(), in_bfloat16=True, backend="eager", fullgraph=True)
        assert not caplog.records, "a graph breaks"
        for _ in range(2):
            with torch.autocast("cpu", torch.bfloat16):
                pooled_BF, _ = faster(_pixels())
            pooled_BF.float().sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.stages()[-2].parameters())


def _pixels():
    side = tiny_encoders.SIDE
    return torch.randn(2, 3, side, side).contiguous(memory_format=torch.channels_last)
