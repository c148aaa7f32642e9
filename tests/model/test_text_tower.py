"""The exported tower embeds a text as torch embeds a document of that text alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from immr.errors import TrainingError
from immr.model import text_tower
from immr.model.encoders.by_name import load_text_encoder
from immr.model.features.document_features import DocumentArrays
from immr.model.features.text_features import Tokens
from immr.model.fusion import FusionName
from immr.model.model_card import TEXT_ENCODER
from immr.model.model_recipe import ModelRecipe
from immr.model.runtime import openvino
from immr.model.text_query_encoder import TextQueryEncoder, has_text_encoder
from immr.model.text_tower import export_text_encoder
from immr.model.towers import Towers
from tests.support.tiny_encoders import text_model

TEXTS = ("fresh milk", "brown bread, fresh milk", "milk " * 30)


def towers_of(folder: Path, kind: str, fusion: FusionName) -> Towers:
    torch.manual_seed(0)
    recipe = ModelRecipe(
        text_encoder=text_model(kind, folder / kind),
        fusion=fusion,
        dim=16,
        plain_dim=8,
        concepts=4,
        max_tokens=9,
    )
    return Towers(recipe).eval()


@pytest.mark.parametrize(
    ("kind", "fusion"),
    [("bert", "concept_slots"), ("bert", "concept_patch"), ("clip", "gated"), ("siglip", "text")],
)
def test_a_query_is_embedded_as_a_document_of_text_alone(
    kind: str, fusion: FusionName, tmp_path: Path
) -> None:
    towers = towers_of(tmp_path, kind, fusion)
    recipe, document = towers.recipe, towers.document
    cosine = export_text_encoder(recipe, document, tmp_path)
    assert cosine is not None and cosine >= text_tower.SMALLEST_COSINE
    exported = TextQueryEncoder(tmp_path)
    for text in TEXTS:
        tokens_BTE, mask_BT = load_text_encoder(recipe.text_encoder).encode([text], recipe.max_tokens)
        alone = DocumentArrays(
            pictures_NVF=torch.zeros(1, 1, len(document.transform.mean_F)),
            patches_NVPF=torch.zeros(1, 1, 1, document.fusion.w5.weight.shape[1])
            if fusion == "concept_patch"
            else None,
            has_picture_N=torch.tensor([False]),
            tokens=Tokens(
                tokens_BTE[mask_BT].half(),
                torch.zeros(1, dtype=torch.long),
                mask_BT.sum(1),
                longest=mask_BT.shape[1],
            ),
        )
        row_1 = torch.zeros(1, dtype=torch.long)
        with torch.inference_mode():
            expected_D = document(alone.batch(row_1, row_1))[0].numpy()
        assert exported.encode(text).shape == (recipe.embedding_dim,)
        assert np.dot(exported.encode(text), expected_D) > text_tower.SMALLEST_COSINE


def test_a_version_without_texts_has_no_text_encoder(tmp_path: Path) -> None:
    towers = towers_of(tmp_path, "bert", "image")
    assert export_text_encoder(towers.recipe, towers.document, tmp_path) is None
    assert not has_text_encoder(tmp_path)


def test_an_export_that_differs_from_torch_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    towers = towers_of(tmp_path, "bert", "gated")
    monkeypatch.setattr(TextQueryEncoder, "encode", lambda encoder, text: np.zeros(24, dtype=np.float32))
    with pytest.raises(TrainingError, match="OpenVINO converts"):
        export_text_encoder(towers.recipe, towers.document, tmp_path)
    assert (tmp_path / TEXT_ENCODER).is_file()


@pytest.mark.parametrize("in_half", [False, True])
def test_concepts_that_no_token_chooses_need_full_precision(
    in_half: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    towers = towers_of(tmp_path, "bert", "concept_slots")
    # a concept that no token chooses then weighs less than the fusion's epsilon, and shows
    with torch.no_grad():
        towers.document.fusion.read.memory_KD.mul_(160.0)
        towers.document.fusion.w6.weight.mul_(30.0)
    if in_half:
        save = openvino().save_model
        monkeypatch.setattr(openvino(), "save_model", lambda graph, file, **_: save(graph, file))
        with pytest.raises(TrainingError, match="less than"):
            export_text_encoder(towers.recipe, towers.document, tmp_path)
        return
    cosine = export_text_encoder(towers.recipe, towers.document, tmp_path)
    assert cosine is not None and cosine > 0.9999
