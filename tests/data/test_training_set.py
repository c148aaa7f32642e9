from pathlib import Path

import pytest

from immr.data.attributes import CLASS
from immr.data.training_set import TrainingSet
from immr.errors import ContractError
from immr.model.features.image_features import image_hashes
from tests.support import tiny_training_set


def test_it_reads_what_governance_writes(training_set: TrainingSet) -> None:
    assert training_set.hash == "tiny"
    assert len(training_set.item_classes) == len(training_set.items)
    assert training_set.class_count == max(training_set.item_classes) + 1
    assert {photo.class_id for photo in training_set.queries} <= set(range(training_set.class_count))
    assert all(photo.item_id for photo in training_set.judgements)


def test_classes_of_some_items_are_those_of_all_items(training_set: TrainingSet) -> None:
    wanted = training_set.items[1::2]
    found = training_set.classes_of([*(item.item_id for item in wanted), "never there"])
    assert found == {item.item_id: item.attributes[CLASS] for item in wanted}


def test_ids_and_categories_are_those_of_the_items(training_set: TrainingSet) -> None:
    assert training_set.item_ids == {item.item_id for item in training_set.items}
    categories = {item.item_id: item.category for item in training_set.items}
    assert list(training_set.categories.items()) == list(categories.items())


def test_hashes_of_pictures_are_those_of_their_content(training_set: TrainingSet) -> None:
    photos = [photo.image for photo in training_set.queries]
    pictures = [item.image for item in training_set.items if item.image]
    assert training_set.image_hashes() == image_hashes([*photos, *pictures])


def test_a_training_set_of_an_older_release_knows_no_hashes(tmp_path: Path) -> None:
    training_set = tiny_training_set.write(tmp_path, photos_per_class=1)
    tiny_training_set.without_hashes(training_set)
    assert training_set.image_hashes() == {}


def test_a_catalogue_alone_knows_the_hashes_of_its_items(tmp_path: Path) -> None:
    training_set = tiny_training_set.write(tmp_path, photos_per_class=1)
    (tmp_path / "queries.parquet").unlink()
    assert training_set.image_hashes().keys() == {item.image for item in training_set.items if item.image}


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"is not a training set.*run `immr govern` first"):
        TrainingSet(tmp_path)
