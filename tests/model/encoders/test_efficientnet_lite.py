import pytest
import torch

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
