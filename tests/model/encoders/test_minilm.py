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
    monkeypatch.setattr(transformers_text, "has_bfloat16", lambda: True)
    texts = ["apple", "a litre of oat milk, without sugar", "brown bread " * 40]
    tokens, masks = zip(
        *(TransformersText(minilm.spec(), reduced).encode(texts, 128) for reduced in (False, True)),
        strict=True,
    )
    assert all(each.dtype == torch.float32 for each in tokens)
    full_RE, reduced_RE = (each[mask] for each, mask in zip(tokens, masks, strict=True))
    cosines_R = torch.nn.functional.cosine_similarity(full_RE, reduced_RE, dim=1)
    assert cosines_R.min() > 0.999 and not torch.equal(full_RE, reduced_RE)
