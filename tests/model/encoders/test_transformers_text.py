from __future__ import annotations

from pathlib import Path

import pytest
import torch

from immr.errors import RecipeError
from immr.model.encoders.by_name import load_text_encoder, text_encoder_spec
from tests.support.tiny_encoders import WIDTH, image_model, text_model


@pytest.mark.parametrize("kind", ["clip", "siglip", "siglip2", "bert"])
def test_tokens_are_masked_and_independent_of_the_batch(kind: str, tmp_path: Path) -> None:
    name = text_model(kind, tmp_path / f"tiny-{kind}")
    assert text_encoder_spec(name).dim == WIDTH
    encoder = load_text_encoder(name)
    tokens_BTE, mask_BT = encoder.encode(["fresh milk", "brown bread and fresh milk"], max_tokens=8)
    assert tokens_BTE.shape[::2] == (2, WIDTH) and mask_BT.sum(1).tolist() == [2, 5]
    alone_BTE, _ = encoder.encode(["fresh milk"], max_tokens=8)
    torch.testing.assert_close(tokens_BTE[0, :2], alone_BTE[0, :2], atol=1e-5, rtol=1e-4)


def test_texts_are_cut_at_the_models_own_length(tmp_path: Path) -> None:
    encoder = load_text_encoder(text_model("bert", tmp_path / "bert"))
    long_BTE, _ = encoder.encode(["milk " * 40], max_tokens=99)
    assert long_BTE.shape[1] == 12


def test_unsuitable_folders_are_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"owner/model.*path of its folder"):
        text_encoder_spec(str(tmp_path))
    with pytest.raises(RecipeError, match="not a text model"):
        text_encoder_spec(image_model("clip", tmp_path / "picture"))
    (tmp_path / "picture" / "config.json").write_text("{")
    with pytest.raises(RecipeError, match="is not JSON"):
        text_encoder_spec(str(tmp_path / "picture"))
