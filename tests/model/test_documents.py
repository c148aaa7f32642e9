import dataclasses
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from immr.model.documents import encode_documents, encode_pictures
from immr.model.encoders.by_name import load_image_encoder
from immr.model.model_card import IMAGE_ENCODER, Card
from immr.model.model_recipe import FusionName
from immr.model.query_encoder import OnnxQueryEncoder
from immr.train.export import export_query_encoder
from tests.support.tiny_training_set import MODEL
from tests.support.untrained_version import write_untrained


@pytest.mark.parametrize("fusion", get_args(FusionName))
def test_every_item_gets_a_unit_embedding(fusion, training_set, cache_dir, tmp_path):
    write_untrained(tmp_path, fusion)
    wordless = dataclasses.replace(training_set.items[0], title="", description="", category="")
    lost = dataclasses.replace(training_set.items[1], image=str(tmp_path / "gone.png"))
    items = [*training_set.items, wordless, lost]
    embeddings_ND = encode_documents(tmp_path, items, cache_dir)
    assert embeddings_ND.shape == (8, MODEL.dim if fusion == "text" else MODEL.embedding_dim)
    assert embeddings_ND.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(embeddings_ND, axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(
        encode_documents(tmp_path, items[2:3], cache_dir)[0], embeddings_ND[2], atol=1e-5
    )


def test_no_items_give_an_empty_array(cache_dir, tmp_path):
    write_untrained(tmp_path, "concept")
    assert encode_documents(tmp_path, [], cache_dir).shape == (0, MODEL.embedding_dim)


def test_an_item_has_a_row_for_each_picture_that_can_be_read(training_set, cache_dir, tmp_path):
    write_untrained(tmp_path, "concept")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    first, second = training_set.items[:2]
    further = (str(tmp_path / "broken.png"), second.image)
    lost = dataclasses.replace(second, image=str(tmp_path / "gone.png"))
    found = encode_pictures(tmp_path, [dataclasses.replace(first, images=further), lost], cache_dir)
    assert found.pictures_N == [2, 1], "an item keeps its row without a picture"
    as_second = dataclasses.replace(first, image=second.image)
    expected_ND = encode_documents(tmp_path, [first, as_second, lost], cache_dir)
    np.testing.assert_allclose(found.rows_PD, expected_ND, atol=1e-5)
    assert encode_pictures(tmp_path, [], cache_dir).pictures_N == []


def test_a_picture_that_was_replaced_is_read_anew(training_set, cache_dir, tmp_path):
    write_untrained(tmp_path, "image")
    colours = ("teal", "orange")
    for colour in colours:
        Image.new("RGB", (64, 64), colour).save(tmp_path / f"{colour}.png")
    replaced, other = (
        dataclasses.replace(training_set.items[0], image=str(tmp_path / f"{colour}.png"))
        for colour in colours
    )
    old = {replaced.image: "0" * 64, other.image: "1" * 64}
    found_ND = encode_pictures(tmp_path, [replaced, other], cache_dir, hashes=old).rows_PD
    np.testing.assert_array_equal(found_ND, encode_documents(tmp_path, [replaced, other], cache_dir))
    assert not np.allclose(found_ND[0], found_ND[1], atol=0.01)


@pytest.mark.slow
def test_a_fine_tuned_encoder_is_used_on_both_sides(training_set, cache_dir, tmp_path):
    towers = write_untrained(tmp_path, "image")
    photo = Image.open(training_set.queries[0].image)
    export_query_encoder(MODEL, towers.query, tmp_path, cache_dir)
    before_D, texture_T = OnnxQueryEncoder(tmp_path).encode_with_texture(photo)
    pretrained_ND = encode_documents(tmp_path, training_set.items[:2], cache_dir)

    encoder = load_image_encoder(MODEL.image_encoder, MODEL.image_size_px)
    with torch.no_grad():
        for parameter in encoder.stages()[-1].parameters():
            parameter.mul_(0.5).add_(0.05)
    torch.save(encoder.state_dict(), tmp_path / IMAGE_ENCODER)
    assert export_query_encoder(MODEL, towers.query, tmp_path, cache_dir) < 1e-5
    after_D, same_T = OnnxQueryEncoder(tmp_path).encode_with_texture(photo)
    assert not np.allclose(after_D, before_D, atol=1e-3)
    np.testing.assert_allclose(same_T, texture_T, atol=1e-5)
    tuned_ND = encode_documents(tmp_path, training_set.items[:2], cache_dir)
    assert not np.allclose(tuned_ND, pretrained_ND, atol=1e-3)

    (tmp_path / IMAGE_ENCODER).unlink()
    again_ND = encode_documents(tmp_path, training_set.items[:2], cache_dir)
    np.testing.assert_array_equal(again_ND, pretrained_ND)


def test_a_document_leans_towards_its_picture_as_a_photo(training_set, cache_dir, tmp_path):
    towers = write_untrained(tmp_path, "image")
    export_query_encoder(MODEL, towers.query, tmp_path, cache_dir)
    items = [item for item in training_set.items if item.image]
    as_photos_ND = OnnxQueryEncoder(tmp_path).encode(
        [Image.open(item.image).convert("RGB") for item in items]
    )
    wordless = dataclasses.replace(items[0], image=str(tmp_path / "gone.png"))
    before_ND = encode_documents(tmp_path, [*items, wordless], cache_dir)
    _change_card(tmp_path, picture_as_photo=0.25)
    after_ND = encode_documents(tmp_path, [*items, wordless], cache_dir)
    np.testing.assert_allclose(after_ND[:-1], _unit(0.75 * before_ND[:-1] + 0.25 * as_photos_ND), atol=0.01)
    np.testing.assert_allclose(after_ND[-1], before_ND[-1], atol=1e-6)


def test_a_document_is_the_mean_over_views_of_its_picture(training_set, cache_dir, tmp_path):
    write_untrained(tmp_path, "image")
    items = [item for item in training_set.items if item.image]
    mirrored = []
    for item in items:
        file = tmp_path / f"{item.item_id}.png"
        ImageOps.mirror(Image.open(item.image).convert("RGB")).save(file)
        mirrored.append(dataclasses.replace(item, image=str(file)))
    one_ND, other_ND = (encode_documents(tmp_path, each, cache_dir) for each in (items, mirrored))
    _change_card(tmp_path, document_views=2)
    np.testing.assert_allclose(
        encode_documents(tmp_path, items, cache_dir), _unit(one_ND + other_ND), atol=0.01
    )


def _change_card(folder, **fields):
    card = Card.read(folder)
    dataclasses.replace(card, model=dataclasses.replace(card.model, **fields)).write(folder)


def _unit(rows_ND):
    return rows_ND / np.linalg.norm(rows_ND, axis=1, keepdims=True)
