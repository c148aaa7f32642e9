import pytest
import torch

from immr.errors import DataError
from immr.model.encoders.by_name import load_text_encoder
from immr.model.features import text_features
from immr.model.features.text_features import TextFeatures
from tests.support.tiny_training_set import MODEL


def test_minilms_tokens_are_masked_and_independent_of_the_batch():
    encoder = load_text_encoder("minilm")
    tokens_BTE, mask_BT = encoder.encode(["milk", "a bottle of fresh organic whole milk"], max_tokens=6)
    assert tokens_BTE.shape == (2, 6, 384)
    assert mask_BT.sum(1).tolist() == [3, 6]
    alone_BTE, _ = encoder.encode(["milk"], max_tokens=6)
    torch.testing.assert_close(tokens_BTE[0, :3], alone_BTE[0, :3], atol=1e-4, rtol=1e-4)


def test_text_features_are_cached_and_empty_texts_have_no_tokens(tmp_path):
    features = TextFeatures(MODEL, tmp_path)
    features.compute(["milk", "", "brown bread", "milk"])
    tokens = TextFeatures(MODEL, tmp_path).read(["brown bread", "", "milk", "milk"])
    assert tokens.lengths_N.tolist() == [4, 0, 3, 3]
    tokens_BTE, mask_BT = tokens.batch(torch.tensor([3, 1, 2]))
    assert tokens_BTE.shape == (3, 4, 384) and mask_BT.sum(1).tolist() == [3, 0, 3]
    assert not tokens_BTE[1].any()
    torch.testing.assert_close(tokens_BTE[0], tokens_BTE[2])
    assert tokens_BTE[0, :3].any(-1).all() and not tokens_BTE[0, 3:].any()


def test_tokens_in_the_memory_of_a_device_give_the_same_batches(tmp_path, monkeypatch):
    monkeypatch.setattr(text_features, "_COPIED_TEXTS", 2)
    features = TextFeatures(MODEL, tmp_path)
    texts = ["milk", "", "brown bread", "milk", "fresh organic milk"]
    features.compute(texts)
    stored = features.read(texts)
    copied, rows_B = stored._copied("cpu"), torch.tensor([4, 1, 3, 0, 2])
    assert copied.values_RE.dtype == torch.float16
    assert len(copied.values_RE) == stored.lengths_N[[0, 2, 4]].sum()  # "milk" once
    for mine, its in zip(stored.batch(rows_B), copied.batch(rows_B), strict=True):
        torch.testing.assert_close(mine, its, rtol=0, atol=0)


def test_a_text_without_tokens_is_not_taken_for_an_empty_one(tmp_path):
    with pytest.raises(DataError, match="1 text not in the cache"):
        TextFeatures(MODEL, tmp_path).read(["milk", ""])


def test_texts_are_encoded_beside_texts_of_their_length(tmp_path, monkeypatch):
    features = TextFeatures(MODEL, tmp_path)
    encoder, padded = features.load(), list[int]()
    encode = type(encoder).encode

    def counted(self, texts, max_tokens):
        tokens_BTE, mask_BT = encode(self, texts, max_tokens)
        padded.append(int((~mask_BT).sum()))
        return tokens_BTE, mask_BT

    monkeypatch.setattr(type(encoder), "encode", counted)
    features.compute([text for n in range(64) for text in (f"milk {n}", f"fresh organic whole milk {n}")])
    assert padded == [0, 0]
