import itertools
import logging

import pytest
import torch
from torch import nn

from immr.train.inputs.compiled import compiled


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
    faster = compiled(encoder, pixels, reduced=False, backend="aot_eager")
    torch.testing.assert_close(faster(pixels)[0], expected)
    assert all(parameter.grad is None for parameter in encoder.parameters())


@pytest.mark.parametrize("widths", [(8, 8, 8, 8), (8, 6, 4)])
def test_an_encoder_that_does_not_compile_runs_as_it_is(widths, caplog):
    def refuse(graph, inputs):
        raise RuntimeError("no compiler")

    encoder, pixels = Encoder(widths), torch.randn(2, 3, 4, 8)
    with caplog.at_level(logging.WARNING, logger="immr"):
        slower = compiled(encoder, pixels, reduced=False, backend=refuse)
    assert "no compiler" in caplog.text and "slower" in caplog.text
    torch.testing.assert_close(slower(pixels)[0], encoder(pixels)[0])
