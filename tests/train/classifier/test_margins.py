import math

import pytest
import torch

from immr.errors import RecipeError
from immr.train.classifier import margins


def test_cosface_subtracts_a_constant():
    torch.testing.assert_close(margins.CosFace(0.2)(torch.tensor([0.5, -1.0])), torch.tensor([0.3, -1.2]))


def test_arcface_adds_to_the_angle():
    cosine_B = torch.cos(torch.tensor([0.1, 1.0, 2.0], dtype=torch.float64))
    expected_B = torch.cos(torch.tensor([0.4, 1.3, 2.3], dtype=torch.float64))
    torch.testing.assert_close(margins.ArcFace(0.3)(cosine_B), expected_B)


def test_arcface_never_rises_again_and_has_gradients_at_the_ends():
    cosine_B = torch.linspace(-1, 1, 201, dtype=torch.float64, requires_grad=True)
    hardened_B = margins.ArcFace(0.5)(cosine_B)
    assert (hardened_B.diff() > 0).all()
    hardened_B.sum().backward()
    assert cosine_B.grad is not None and cosine_B.grad.isfinite().all()
    assert hardened_B[-1].item() == pytest.approx(math.cos(0.5), abs=1e-6)


def test_an_unknown_margin_is_refused():
    with pytest.raises(RecipeError, match="cosface, arcface"):
        margins.by_name("circle", 0.1)


@pytest.mark.parametrize("margin", [margins.CosFace(0.3), margins.ArcFace(0.4)])
def test_a_slope_is_the_derivative(margin):
    cosine_B = torch.linspace(-1, 1, 101, dtype=torch.float64, requires_grad=True)
    (expected_B,) = torch.autograd.grad(margin(cosine_B).sum(), cosine_B)
    torch.testing.assert_close(margin.slope(cosine_B.detach())[1:-1], expected_B[1:-1])
    assert margin.slope(cosine_B.detach()).isfinite().all()
