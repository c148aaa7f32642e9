import pytest
import torch
from torch import nn

from immr.model.encoders import efficientnet_lite
from immr.model.encoders.by_name import image_encoder_spec, load_image_encoder


@pytest.mark.parametrize(("name", "dim"), [("efficientnet-lite1", 2304), ("efficientnet-lite2", 2400)])
def test_larger_encoders_have_their_sizes_and_stages(name, dim):
    encoder = load_image_encoder(name, 64)
    learned = sum(parameter.numel() for stage in encoder.stages() for parameter in stage.parameters())
    head_of_imagenet = 1280 * 1000 + 1000
    assert learned + head_of_imagenet == sum(parameter.numel() for parameter in encoder.parameters())
    with torch.inference_mode():
        pooled_BF, patches_BPF = encoder(torch.zeros(1, 3, 64, 64))
    assert image_encoder_spec(name).dim == dim
    assert pooled_BF.shape == (1, dim)
    assert patches_BPF.shape == (1, 4, image_encoder_spec(name).patch_dim)


@pytest.mark.parametrize("side", [64, 96])
def test_convolutions_that_pad_compute_the_same(side, monkeypatch):
    encoder = load_image_encoder("efficientnet-lite0", side)
    monkeypatch.setattr(efficientnet_lite, "_pad_within_convolutions", lambda network: None)
    published = load_image_encoder("efficientnet-lite0", side)
    pixels_B3SS = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(encoder(pixels_B3SS), published(pixels_B3SS), rtol=1e-4, atol=1e-5)
    padded = [sum(isinstance(part, nn.ZeroPad2d) for part in each.modules()) for each in (encoder, published)]
    assert padded[0] == 5 < padded[1], "only the five convolutions with a stride pad on one side"
