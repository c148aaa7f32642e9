from pathlib import Path

import pytest

from demo.data import choose, make_shop, photos_for_shoppers, samples
from immr.datasets import synthetic
from immr.datasets.labelled_set import LabelledSet
from immr.errors import DatasetError
from immr.settings import Settings


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> LabelledSet:
    recipe = synthetic.SyntheticRecipe(items=6, train_photos=4, val_photos=2, side_px=32)
    return synthetic.load(recipe, tmp_path_factory.mktemp("cache"))


def test_a_shop_is_created_once(labelled: LabelledSet, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    folder = make_shop(settings, labelled)
    made = (folder / "items.parquet").stat().st_mtime_ns
    assert {path.stem for path in folder.glob("*.parquet")} >= {
        "items",
        "queries",
        "impressions",
        "judgements",
    }
    assert (make_shop(settings, labelled) / "items.parquet").stat().st_mtime_ns == made


def test_shoppers_use_photos_outside_the_training_data(labelled: LabelledSet, tmp_path: Path) -> None:
    photos = photos_for_shoppers(labelled)
    held_out = {photo.image for photo in labelled.split("val")}
    assert len(photos) == 12 and {str(photo.path) for photo in photos} == held_out
    few = list(samples(Settings(home=tmp_path), labelled, count=3).iterdir())
    assert 0 < len(few) <= 3


def test_an_unavailable_data_set_is_replaced_with_an_explanation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, labelled: LabelledSet
) -> None:
    from demo import data

    def load(name: str, *_: object) -> LabelledSet:
        if name == "grocery":
            raise DatasetError("no network")
        return labelled

    said: list[str] = []
    monkeypatch.setattr(data, "load_dataset", load)
    assert choose(Settings(home=tmp_path), "grocery", said.append) is labelled
    assert said == ["no network. Using the synthetic data set instead."]
