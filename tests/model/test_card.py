from pathlib import Path

from immr.model.card import IMAGE_ENCODER, Card, tuned_weights
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
