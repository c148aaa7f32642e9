import torch
from torch import nn

from immr.model.encoders.by_name import load_image_encoder
from immr.train.optimization.layer_rates import encoder_groups, parameter_groups


def test_biases_and_normalization_have_no_weight_decay():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    decay_of = {
        parameter: group["weight_decay"]
        for group in parameter_groups(module.parameters(), weight_decay=0.1)
        for parameter in group["params"]
    }
    assert len(decay_of) == len(list(module.parameters()))
    assert {parameter.ndim > 1: decay for parameter, decay in decay_of.items()} == {True: 0.1, False: 0.0}


def test_the_encoders_biases_have_no_weight_decay():
    encoder = load_image_encoder("efficientnet-lite0", 32)
    groups = encoder_groups(encoder, share=1.0, decay=1.0, frozen_stages=0, weight_decay=0.1)
    vectors = [parameter for group in groups for parameter in group["params"] if parameter.ndim == 1]
    assert len(vectors) > 50
    assert all(not group["weight_decay"] for group in groups if any(p.ndim == 1 for p in group["params"]))


def test_pooled_deviation_survives_bfloat16():
    # around a mean of 100, bfloat16 cannot represent a deviation of 0.1
    from immr.model.encoders.efficientnet_lite import _mean_and_deviation

    map_BCHW = 100 + 0.1 * torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        _, deviation_BC = _mean_and_deviation(map_BCHW.bfloat16())
        rounded_BC = map_BCHW.bfloat16().float().std((2, 3), correction=0)
    torch.testing.assert_close(deviation_BC, rounded_BC)
