from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from immr.data.training_set import LabelledPhoto
from immr.evaluation.clusters import in_words
from immr.evaluation.queries.kinds import KINDS, queries_of
from immr.types import Item

COLOURS = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0), (0, 250, 250)]
CLASSES = [0, 1, 2, 3, 4, 0]  # of the items; two are of one class


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[LabelledPhoto]:
    folder = tmp_path_factory.mktemp("photos")
    made = []
    for number, colour in enumerate([*COLOURS, *COLOURS]):
        path = folder / f"{number}.png"
        Image.new("RGB", (90, 60), colour).save(path)
        made.append(LabelledPhoto(f"q{number}", str(path), number % len(COLOURS), None))
    return made


@pytest.fixture
def items() -> list[Item]:
    now = datetime(2025, 1, 1, tzinfo=UTC)
    long = " ".join(f"word{number}" for number in range(20))
    return [
        Item(f"i{number}", f"Title {number}", long if number == 0 else "", "Fruit/Red-Apple", "", 1.0, now)
        for number in range(len(CLASSES))
    ]


def test_every_photo_is_a_query_alone_and_with_words(photos: list[LabelledPhoto], items: list[Item]) -> None:
    alone = queries_of("photo", photos, items, CLASSES).queries
    both = queries_of("photo+text", photos, items, CLASSES).queries
    assert [query.class_id for query in alone] == [photo.class_id for photo in photos]
    assert alone[3].photos() == [Path(photos[3].image).read_bytes()]
    assert {query.text for query in both} == {"Red Apple"} and both[3].images == alone[3].images


def test_every_item_is_described_in_words(photos: list[LabelledPhoto], items: list[Item]) -> None:
    found = queries_of("text", photos, items, CLASSES)
    assert found.queries[0].text.split() == [f"word{number}" for number in range(12)]
    assert found.queries[1].text == "Title 1"
    assert found.queries[0].photos() == []
    assert in_words(found.clusterings) == "5 classes"


def test_the_box_is_around_the_photo_of_the_right_class(
    photos: list[LabelledPhoto], items: list[Item]
) -> None:
    found = queries_of("box", photos, items, CLASSES).queries
    assert {(query.region.x, query.region.y) for query in found if query.region} == {
        (0, 0),
        (0.5, 0),
        (0, 0.5),
        (0.5, 0.5),
    }
    for query in found:
        assert query.region is not None and len(set(query.images)) == 4
        [content] = query.photos()
        scene = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)
        height, width = scene.shape[:2]
        centre = scene[int((query.region.y + 0.25) * height), int((query.region.x + 0.25) * width)]
        assert np.abs(centre - COLOURS[query.class_id]).max() < 12


def test_there_are_no_scenes_of_fewer_than_four_classes(
    photos: list[LabelledPhoto], items: list[Item]
) -> None:
    assert queries_of("box", photos[:3], items, CLASSES).queries == ()


@pytest.mark.parametrize("kind", KINDS)
def test_queries_are_the_same_every_time(kind: str, photos: list[LabelledPhoto], items: list[Item]) -> None:
    assert queries_of(kind, photos, items, CLASSES) == queries_of(kind, photos, items, CLASSES)
