"""Depthwise convolutions with a fast weight gradient, against torch's own."""

import copy
import itertools
from typing import Any

import pytest
import torch
from torch import nn

from immr.model.encoders.by_name import load_image_encoder
from immr.train.optimization.depthwise import use_fast_gradients, weight_gradient


@pytest.mark.parametrize(
    ("side", "kernel", "stride", "padding"),
    [
        *itertools.product([1, 2, 4, 7], [5, 7], [1], [2]),
        *itertools.product([7, 8, 9], [5], [1, 2, 3], [0, 1, 2, 4]),
        (2, 3, 1, 1),
        (3, 7, 1, 3),
        (2, 7, 2, 3),
    ],
)
def test_the_gradient_of_the_weight_is_torchs(side: int, kernel: int, stride: int, padding: int) -> None:
    if side + 2 * padding < kernel:
        pytest.skip("torch refuses a kernel larger than the padded map")
    torch.manual_seed(0)
    map_BCHW = torch.randn(3, 4, side, side + 1, dtype=torch.float64)
    weight = torch.randn(4, 1, kernel, kernel, dtype=torch.float64, requires_grad=True)
    output = torch.conv2d(map_BCHW, weight, None, stride, padding, groups=4)
    grad = torch.randn_like(output)
    [expected] = torch.autograd.grad(output, weight, grad)
    torch.testing.assert_close(weight_gradient(map_BCHW, grad, kernel, stride, padding), expected)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("side", [4, 9, 16], ids=["both small", "one small", "none small"])
def test_a_replaced_layer_passes_gradients_on_as_before(side: int, bias: bool) -> None:
    torch.manual_seed(0)
    theirs = nn.Sequential(
        nn.Conv2d(6, 6, 3, groups=6), nn.Conv2d(6, 6, 5, 2, 2, groups=6, bias=bias)
    ).double()
    ours = copy.deepcopy(theirs)
    assert use_fast_gradients(ours) == 2
    assert use_fast_gradients(ours) == 0
    assert list(ours.state_dict()) == list(theirs.state_dict())
    found = []
    for network in (theirs, ours):
        pixels = torch.randn(
            2, 6, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
        ).requires_grad_()
        output = network(pixels)
        output.square().sum().backward()
        found.append([output, pixels.grad, *(parameter.grad for parameter in network.parameters())])
    torch.testing.assert_close(*found)


def test_a_batch_without_pictures_has_a_gradient_of_zero() -> None:
    network = nn.Sequential(nn.Conv2d(6, 6, 5, 1, 2, groups=6))
    assert use_fast_gradients(network) == 1
    network(torch.randn(0, 6, 4, 4, requires_grad=True)).sum().backward()
    [weight, _] = network.parameters()
    assert weight.grad is not None and not weight.grad.any()


class Doubled(nn.Conv2d):
    """A shop's own kind of convolution."""

    def forward(self, map_BCHW: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(map_BCHW)


def test_layers_that_compute_something_else_stay() -> None:
    parametrized = nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 5, groups=4))
    network = nn.Sequential(Doubled(4, 4, 5, groups=4), parametrized)
    names, pixels = list(network.state_dict()), torch.randn(1, 4, 12, 12)
    expected = network(pixels)
    assert use_fast_gradients(network) == 0
    assert list(network.state_dict()) == names
    torch.testing.assert_close(network(pixels), expected)


def test_efficientnet_lite_keeps_its_features_and_its_stages() -> None:
    encoder: Any = load_image_encoder("efficientnet-lite0", 64).requires_grad_(True)
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    expected = encoder(pixels)
    names = list(encoder.state_dict())
    assert use_fast_gradients(encoder) == 16
    for output, reference in zip(encoder(pixels), expected, strict=True):
        torch.testing.assert_close(output, reference)
    assert list(encoder.state_dict()) == names
    parameters = [parameter for stage in encoder.stages() for parameter in stage.parameters()]
    encoder(pixels)[1].square().sum().backward()
    assert all(parameter.grad is not None for parameter in parameters)


def test_layers_that_are_not_depthwise_stay() -> None:
    layers = nn.ModuleList(
        [nn.Conv2d(4, 4, 5), nn.Conv2d(4, 8, 5, groups=4), nn.Conv2d(4, 4, 5, groups=4, dilation=2)]
    )
    assert use_fast_gradients(layers) == 0
