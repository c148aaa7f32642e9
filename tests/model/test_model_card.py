import json
from pathlib import Path

import pytest

from immr.errors import TrainingError
from immr.model.model_card import IMAGE_ENCODER, Card, tuned_weights
from immr.model.model_recipe import ModelRecipe
from immr.model.preprocessing import Preprocessing


def test_a_card_round_trips(tmp_path: Path) -> None:
    card = Card("concept", ModelRecipe(dim=16), Preprocessing(96), manifest_hash="m", key="k")
    card.write(tmp_path)
    assert Card.read(tmp_path) == card


def test_tuned_weights_exist_only_in_fine_tuned_versions(tmp_path: Path) -> None:
    assert tuned_weights(tmp_path) is None
    (tmp_path / IMAGE_ENCODER).touch()
    assert tuned_weights(tmp_path) == tmp_path / IMAGE_ENCODER


def test_a_version_with_mixed_documents_has_to_be_trained_again(tmp_path):
    Card("concept", ModelRecipe(dim=16), Preprocessing(96), manifest_hash="m", key="k").write(tmp_path)
    fields = json.loads((tmp_path / "card.json").read_text())
    fields["model"]["photo_weight"] = 0.0
    (tmp_path / "card.json").write_text(json.dumps(fields))
    assert Card.read(tmp_path).model == ModelRecipe(dim=16)
    fields["model"]["photo_weight"] = 0.125
    (tmp_path / "card.json").write_text(json.dumps(fields))
    with pytest.raises(TrainingError, match="train it again"):
        Card.read(tmp_path)


def test_an_earlier_version_with_class_photos_keeps_its_documents(tmp_path):
    Card("many_classes", ModelRecipe(photos_per_class=32), Preprocessing(96), "m", "k").write(tmp_path)
    assert Card.read(tmp_path).model.picture_as_photo == 0
    fields = json.loads((tmp_path / "card.json").read_text())
    del fields["model"]["picture_as_photo"]
    (tmp_path / "card.json").write_text(json.dumps(fields))
    assert Card.read(tmp_path).model.picture_as_photo == 0.5
