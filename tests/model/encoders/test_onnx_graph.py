import numpy as np
import torch

from immr.model.encoders.by_name import image_encoder_spec, load_image_encoder
from immr.model.encoders.onnx_graph import FrozenImageEncoder
from tests.support.tiny_training_set import MODEL


def test_the_graph_agrees_with_torch(cache_dir, capsys):
    encoder = load_image_encoder(MODEL.image_encoder, MODEL.image_size_px)
    assert capsys.readouterr().out == ""
    pixels_B3SS = np.random.default_rng(0).uniform(-1, 1, (3, 3, 64, 64)).astype(np.float32)
    with torch.inference_mode():
        pooled_BF, patches_BPF = encoder(torch.from_numpy(pixels_B3SS))
    frozen = FrozenImageEncoder(MODEL, cache_dir)
    assert pooled_BF.shape == (3, image_encoder_spec(MODEL.image_encoder).dim)
    assert patches_BPF.shape == (3, 4, image_encoder_spec(MODEL.image_encoder).patch_dim)
    np.testing.assert_allclose(frozen.encode(pixels_B3SS, "pooled"), pooled_BF, atol=1e-5)
    np.testing.assert_allclose(frozen.encode(pixels_B3SS, "patches"), patches_BPF, atol=1e-4)
    np.testing.assert_allclose(frozen.encode(pixels_B3SS[:1], "pooled"), pooled_BF[:1], atol=1e-5)
