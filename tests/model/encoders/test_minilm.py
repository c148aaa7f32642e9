import pytest
import torch

from immr.model.encoders import minilm, transformers_text
from immr.model.encoders.transformers_text import TransformersText


def test_the_weights_are_read_from_the_package() -> None:
    spec = minilm.spec()
    assert (spec.name, spec.dim) == (minilm.NAME, 384)
    assert (spec.folder / "tokenizer.json").is_file()
    assert len(spec.hash) == 16


def test_features_in_bfloat16_are_nearly_those_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformers_text, "_has_bfloat16", lambda: True)
    texts = ["apple", "a litre of oat milk, without sugar", "brown bread " * 40]
    whole, reduced = (TransformersText(minilm.spec(), each) for each in (False, True))
    whole_BTE, mask_BT = whole.encode(texts, 128)
    reduced_BTE, _ = reduced.encode(texts, 128)
    assert torch.equal(
        reduced.encode(texts, 128)[0], reduced_BTE
    )  # also after the first batch, which decides
    cosines_R = torch.nn.functional.cosine_similarity(whole_BTE[mask_BT], reduced_BTE[mask_BT], dim=1)
    assert reduced_BTE.dtype == torch.float32
    assert cosines_R.min() > 0.999 and not torch.equal(reduced_BTE, whole_BTE)


def test_a_model_whose_features_differ_in_bfloat16_stays_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformers_text, "_has_bfloat16", lambda: True)
    monkeypatch.setattr(transformers_text, "agree", lambda found, expected: False)
    texts = ["apple", "a litre of oat milk, without sugar"]
    whole, reduced = (TransformersText(minilm.spec(), each) for each in (False, True))
    for _ in range(2):
        assert torch.equal(reduced.encode(texts, 128)[0], whole.encode(texts, 128)[0])
