import pytest
import torch

from immr.model.encoders import image_encoder_spec
from immr.model.towers import DocumentBatch, DocumentTower, QueryTower, Towers
from tests.tiny_training_set import MODEL

F, E = image_encoder_spec("efficientnet-lite0").dim, 384


def _batch(pictures: list[bool], texts: list[bool]) -> DocumentBatch:
    has_picture_B, has_text_B = torch.tensor(pictures), torch.tensor(texts)
    return DocumentBatch(
        pictures_BF=torch.randn(len(pictures), F) * has_picture_B[:, None],
        patches_BPF=None,
        has_picture_B=has_picture_B,
        tokens_BTE=torch.randn(len(texts), 3, E) * has_text_B[:, None, None],
        mask_BT=has_text_B[:, None].expand(-1, 3).clone(),
    )


def test_both_towers_give_unit_rows_even_without_picture_or_text():
    torch.manual_seed(0)
    towers = Towers(MODEL).eval()
    batch = _batch([True, False, True, False], [True, True, False, False])
    for rows in (towers.query(torch.randn(5, F)), towers.document(batch)):
        assert rows.isfinite().all()
        torch.testing.assert_close(rows.norm(dim=-1), torch.ones(len(rows)))


def test_hiding_trains_both_stand_ins():
    torch.manual_seed(0)
    tower = DocumentTower(MODEL, dropout=0.0, hide=0.5).train()
    tower(_batch([True] * 40, [True] * 40)).sum().backward()
    assert tower.no_picture_D.grad is not None and tower.no_picture_D.grad.abs().sum() > 0
    assert tower.no_text_E.grad is not None and tower.no_text_E.grad.abs().sum() > 0


def test_folded_transform_is_the_same_map():
    torch.manual_seed(0)
    tower = QueryTower(feature_dim=10, dim=4, dropout=0.5).eval()
    features_BF = torch.randn(20, 10) * 3 + 1
    tower.transform.fit(features_BF)
    affine = tower.transform.folded()
    torch.testing.assert_close(
        tower.transform(features_BF), features_BF @ affine.weight_DF.T + affine.bias_D, atol=1e-5, rtol=1e-5
    )


def test_standardized_features_have_no_mean_and_unit_deviation():
    transform = QueryTower(feature_dim=3, dim=3, dropout=0.0).transform
    features_BF = torch.randn(500, 3) * torch.tensor([1.0, 10.0, 5.0]) + 7
    transform.fit(features_BF)
    torch.nn.init.eye_(transform.project.weight)
    torch.nn.init.zeros_(transform.project.bias)
    standardized = transform(features_BF).detach()
    assert standardized.mean(0).abs().max() < 1e-3
    assert standardized.std(0).numpy() == pytest.approx(1.0, abs=0.01)
