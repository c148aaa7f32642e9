import torch

from immr.model.encoders.by_name import load_text_encoder
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
    assert tokens.values_RE.shape == (7, 384) and tokens.values_RE.dtype == torch.float16
    tokens_BTE, mask_BT = tokens.batch(torch.tensor([3, 1, 2]))
    assert tokens_BTE.shape == (3, 4, 384) and mask_BT.sum(1).tolist() == [3, 0, 3]
    assert not tokens_BTE[1].any()
    torch.testing.assert_close(tokens_BTE[0], tokens_BTE[2])
    torch.testing.assert_close(tokens_BTE[0, :3], tokens.values_RE[4:].float())
    assert not tokens_BTE[0, 3:].any()


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
