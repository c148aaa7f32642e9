"""A training set of a catalogue alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from immr.data.sources.shop import Shop
from immr.data.training_set import TrainingSet
from immr.errors import ContractError
from immr.governance.catalogue import catalogue_set
from immr.governance.governance_recipe import GovernanceRecipe

HEADER = "item_id,title,description,category,image,price,updated_at\n"
ROW = "{},A pear,green,Fruit/Pear,{},1.5,2025-01-01\n"


def made(folder: Path, *pictures: str) -> TrainingSet:
    """The training set of one item per picture, in the folder `set`."""
    folder.mkdir(exist_ok=True)
    rows = [ROW.format(f"{number:03}", picture) for number, picture in enumerate(pictures)]
    (folder / "items.csv").write_text(HEADER + "".join(rows))
    return catalogue_set(Shop.catalogue(folder / "items.csv"), folder / "set", GovernanceRecipe())


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for name in ("0.png", "1.png"):
        Image.effect_mandelbrot((64, 64), (-2, -1.5, 1, 1.5), 40).save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    return tmp_path


def test_each_item_is_a_class_and_there_are_no_photos(pictures: Path) -> None:
    training_set = made(pictures, "0.png", "broken.png", "1.png")
    assert [item.item_id for item in training_set.items] == ["000", "002"]
    assert training_set.item_classes == [0, 1]
    assert (training_set.queries, training_set.judgements) == ([], [])


def test_the_same_items_have_the_same_hash(pictures: Path) -> None:
    first = made(pictures, "0.png", "1.png").hash
    assert made(pictures, "0.png", "1.png").hash == first
    assert made(pictures, "0.png").hash != first


def test_a_catalogue_whose_pictures_are_all_unusable_is_refused(pictures: Path) -> None:
    with pytest.raises(ContractError, match="image cannot be decoded"):
        made(pictures, "broken.png", "broken.png")
    assert not (pictures / "set").exists()


def test_further_pictures_are_kept_if_they_can_be_read(
    pictures: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = f"{pictures}/1.png|{pictures}/broken.png"
    rows = [ROW.format("000", "0.png").strip() + f",{images}\n", ROW.format("001", "1.png").strip() + ",\n"]
    (pictures / "items.csv").write_text(HEADER.strip() + ",images\n" + "".join(rows))
    shop = Shop.catalogue(pictures / "items.csv")
    items = catalogue_set(shop, pictures / "set", GovernanceRecipe()).items
    assert [item.images for item in items] == [(f"{pictures}/1.png",), ()]
    assert "left out 1 additional picture of items" in caplog.text and "broken.png" in caplog.text
