import dataclasses

import pytest
import torch

from immr.errors import RecipeError, TrainingError
from immr.model.encoders.by_name import image_encoder_spec
from immr.model.model_card import TOWERS
from immr.model.model_recipe import ModelRecipe
from immr.model.towers import DocumentBatch, DocumentTower, QueryTower, Towers
from tests.support.tiny_training_set import MODEL
from tests.support.untrained_version import write_untrained

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


def test_both_towers_return_unit_rows_even_without_picture_or_text():
    torch.manual_seed(0)
    towers = Towers(MODEL).eval()
    batch = _batch([True, False, True, False], [True, True, False, False])
    for rows in (towers.query(torch.randn(5, F)), towers.document(batch)):
        assert rows.isfinite().all()
        torch.testing.assert_close(rows.norm(dim=-1), torch.ones(len(rows)))


def test_hiding_trains_the_vectors_for_missing_pictures_and_texts():
    torch.manual_seed(0)
    tower = DocumentTower(MODEL, dropout=0.0, hide=0.5).train()
    tower(_batch([True] * 40, [True] * 40)).sum().backward()
    assert tower.no_picture_D.grad is not None and tower.no_picture_D.grad.abs().sum() > 0
    assert tower.no_text_E.grad is not None and tower.no_text_E.grad.abs().sum() > 0


def test_the_folded_transform_is_the_same_map():
    torch.manual_seed(0)
    tower = QueryTower(feature_dim=10, dim=4, dropout=0.5).eval()
    features_BF = torch.randn(20, 10) * 3 + 1
    tower.transform.fit(features_BF)
    affine = tower.transform.folded()
    torch.testing.assert_close(
        tower.transform(features_BF), features_BF @ affine.weight_DF.T + affine.bias_D, atol=1e-5, rtol=1e-5
    )


def test_standardized_features_have_zero_mean_and_unit_deviation():
    transform = QueryTower(feature_dim=3, dim=3, dropout=0.0).transform
    features_BF = torch.randn(500, 3) * torch.tensor([1.0, 10.0, 5.0]) + 7
    transform.fit(features_BF)
    torch.nn.init.eye_(transform.project.weight)
    torch.nn.init.zeros_(transform.project.bias)
    standardized = transform(features_BF).detach()
    assert standardized.mean(0).abs().max() < 1e-3
    assert standardized.std(0).numpy() == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("items", [1, 2, 3])
def test_a_tiny_catalogue_is_compared_by_all_features(items: int) -> None:
    """One item's document was zero; of two items, features in which they agree by chance counted most."""
    generator = torch.Generator().manual_seed(0)
    pictures_NF = torch.randn(items, F, generator=generator).abs()
    towers = Towers.pretrained(_image_only(), pictures_NF)
    photos_NF = pictures_NF + 0.1 * torch.randn(items, F, generator=generator)
    cosines_NN = towers.query(photos_NF) @ towers.query(pictures_NF).T
    assert cosines_NN.diagonal().min() > 0.97
    assert cosines_NN.fill_diagonal_(-1).max() < 0.5


def test_pictures_that_are_all_the_same_keep_their_direction() -> None:
    same_NF = torch.randn(1, F).expand(50, F).half()
    towers = Towers.pretrained(_image_only(), same_NF)
    torch.testing.assert_close(towers.query(same_NF).norm(dim=1), torch.ones(50))


def _image_only() -> ModelRecipe:
    return dataclasses.replace(MODEL, fusion="image", plain_share=0.0, shared_projection=True)


def _fitted(**changes: object) -> Towers:
    torch.manual_seed(0)
    towers = Towers(dataclasses.replace(MODEL, **changes))
    towers.fit(torch.randn(60, F) + 1, torch.randn(20, F) * 2)
    return towers


def test_a_cosine_is_the_weighted_sum_of_its_parts_cosines():
    towers = _fitted(plain_share=0.3).eval()
    photos_BF, batch = torch.randn(5, F), _batch([True] * 4, [True] * 4)
    query_BD, document_BD = towers.query(photos_BF), towers.document(batch)
    plain = towers.query.transform.plain(photos_BF) @ towers.document.transform.plain(batch.pictures_BF).T
    towers.train()
    towers.query.transform.dropout.p = towers.document.transform.dropout.p = 0.0
    learned = towers.query(photos_BF) @ towers.document(batch).T
    assert learned.shape == plain.shape == (5, 4)
    torch.testing.assert_close(query_BD @ document_BD.T, 0.7 * learned + 0.3 * plain)


def test_without_a_picture_the_plain_part_is_zero():
    towers = _fitted().eval()
    document_BD = towers.document(_batch([True, False], [True, True]))
    assert document_BD.shape == (2, MODEL.embedding_dim)
    assert document_BD[0, MODEL.dim :].square().sum().item() == pytest.approx(MODEL.plain_share)
    assert not document_BD[1, MODEL.dim :].any()


def test_the_plain_part_uses_orthonormal_principal_directions():
    towers = _fitted()
    basis_CF = towers.query.transform.basis_CF
    torch.testing.assert_close(basis_CF @ basis_CF.T, torch.eye(MODEL.plain_dim), atol=1e-4, rtol=1e-4)
    assert torch.equal(basis_CF, towers.document.transform.basis_CF)
    assert torch.equal(basis_CF, _fitted().query.transform.basis_CF)


@pytest.mark.parametrize("shared", [True, False])
def test_training_begins_with_the_principal_components(shared):
    """Projections began at random, in which a few photos had to be learned by heart."""
    towers = _fitted(shared_projection=shared, dim=8, plain_dim=8).eval()
    for transform in (towers.query.transform, towers.document.transform):
        torch.testing.assert_close(transform.project.weight, transform.basis_CF)
        assert not transform.project.bias.any()
    photos_BF = torch.randn(5, F)
    query_BD = towers.query(photos_BF)
    torch.testing.assert_close(query_BD[:, :8] / 0.7**0.5, towers.query.transform.plain(photos_BF))


def test_photos_of_the_largest_class_do_not_set_the_statistics_alone():
    generator = torch.Generator().manual_seed(0)
    large_BF, small_BF = (
        torch.randn(count, F, generator=generator) + shift for count, shift in ((90, 1.0), (10, 0.0))
    )
    pictures_BF = torch.randn(20, F, generator=generator)
    even, weighted, repeated = (Towers(_image_only()) for _ in range(3))
    photos_BF = torch.cat([large_BF, small_BF])
    even.fit(photos_BF, pictures_BF)
    weighted.fit(photos_BF, pictures_BF, torch.tensor([1.0] * 90 + [9.0] * 10))
    repeated.fit(torch.cat([large_BF, small_BF.repeat(9, 1)]), pictures_BF)
    means = [float(towers.query.transform.mean_F.mean()) for towers in (even, weighted, repeated)]
    assert means == pytest.approx([0.9, 0.5, 0.5], abs=0.02)
    torch.testing.assert_close(
        weighted.query.transform.deviation_F, repeated.query.transform.deviation_F, atol=0.15, rtol=0
    )


def test_fewer_pictures_than_components_leave_the_rest_zero():
    towers = Towers(dataclasses.replace(MODEL, plain_dim=50)).eval()
    towers.fit(torch.randn(6, F), torch.randn(0, F))
    assert towers.query.transform.basis_CF.any(1).sum() == 6
    torch.testing.assert_close(towers.query(torch.randn(3, F)).norm(dim=-1), torch.ones(3))


def test_both_sides_share_one_projection_unless_the_recipe_says_otherwise():
    def shared(towers: Towers) -> bool:
        return towers.query.transform.project is towers.document.transform.project

    assert shared(_fitted()) and not shared(_fitted(shared_projection=False))


def test_a_plain_share_of_one_is_refused():
    with pytest.raises(RecipeError, match="less than 1"):
        Towers(dataclasses.replace(MODEL, plain_share=1.0))


def test_towers_of_another_recipe_are_refused(tmp_path):
    write_untrained(tmp_path, "concept")
    with pytest.raises(TrainingError, match=r"towers\.pt does not match its recipe.*train again"):
        Towers.read(dataclasses.replace(MODEL, fusion="image"), tmp_path / TOWERS)


def test_pretrained_towers_embed_photos_and_catalogue_pictures_alike():
    recipe = dataclasses.replace(MODEL, fusion="image", plain_share=0.0, dim=8)
    torch.manual_seed(0)
    pictures_NF = torch.randn(30, F)
    towers = Towers.pretrained(recipe, pictures_NF)
    batch = dataclasses.replace(_batch([True] * 30, [True] * 30), pictures_BF=pictures_NF)
    torch.testing.assert_close(towers.document(batch), towers.query(pictures_NF), atol=1e-5, rtol=1e-5)


def test_pretrained_towers_need_a_fusion_without_weights():
    with pytest.raises(RecipeError, match=r"'concept_slots' has to be trained"):
        Towers.pretrained(MODEL, torch.randn(30, F))
