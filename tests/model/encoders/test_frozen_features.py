import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from immr.model.encoders.by_name import preprocessing_of
from immr.model.encoders.frozen_features import TorchEncoder, frozen_encoder
from immr.model.encoders.onnx_graph import FrozenImageEncoder
from tests.support.tiny_training_set import MODEL

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    small = [Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)) for _ in range(3)]
    return [picture.resize((90, 70 + 5 * number)) for number, picture in enumerate(small)]


@pytest.mark.slow
@pytest.mark.parametrize("output", ["pooled", "patches"])
def test_torch_computes_the_features_of_openvino(cache_dir, photos, output):
    encoder, reference = TorchEncoder(MODEL, None, CPU), FrozenImageEncoder(MODEL, cache_dir)
    squares = [preprocessing_of(MODEL).square(photo) for photo in photos]
    expected = reference.encode([reference.prepare(photo) for photo in photos], output)
    found = encoder.encode(squares, output)
    assert found.dtype == expected.dtype == np.float32
    assert _cosines(found, expected).min() > 1 - 1e-5


def test_pictures_that_the_device_resizes_have_the_features_of_those_that_pillow_resizes(photos):
    encoder, side = TorchEncoder(MODEL, None, CPU), MODEL.image_size_px
    sizes = [
        (side, side),
        (side + 31, side),
        (side // 2, side - 7),
        (2 * side, 2 * side + 9),
        (5 * side, 5 * side),
    ]
    pictures = [photos[0].resize(size) for size in sizes]
    prepared = [encoder.prepare(picture) for picture in pictures]
    assert max(max(square.shape) for square in prepared) <= 2 * side + 1, "larger ones are resized before"
    found = encoder.encode(prepared, "pooled")
    expected = encoder.encode([preprocessing_of(MODEL).square(picture) for picture in pictures], "pooled")
    assert _cosines(found, expected).min() > 1 - 1e-3


def _cosines(found, expected):
    return F.cosine_similarity(*(torch.from_numpy(each).flatten(1) for each in (found, expected)))


def test_features_in_float16_are_used_only_if_they_are_the_same(photos, monkeypatch, caplog):
    encoder = TorchEncoder(MODEL, None, CPU)
    whole = encoder.encode([encoder.prepare(photo) for photo in photos], "pooled")
    run = encoder._run
    for half, used in ((0.0, True), (0.3, False), (np.nan, False)):
        halves = []

        def noisy(pixels, output, half, noise=half, halves=halves):
            halves.append(half)
            features = run(pixels, output, half=False)
            return features + noise * torch.randn_like(features) if half else features

        monkeypatch.setattr(encoder, "_run", noisy)
        encoder._half = None
        for _ in range(2):
            found = encoder.encode([encoder.prepare(photo) for photo in photos], "pooled")
            np.testing.assert_array_equal(found, whole)
        assert halves == [False, True, used]
    assert "float32" in caplog.text


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_openvino_is_used(cache_dir):
    encoder = frozen_encoder(MODEL, cache_dir)
    assert isinstance(encoder, FrozenImageEncoder) and encoder.workers == 0
