"""The column `images` of items, from each kind of file to the item."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from immr.data.item_changes import read_items
from immr.data.pictures import additional_pictures
from immr.errors import ContractError

ROW = {
    "item_id": "a",
    "title": "A",
    "description": "",
    "category": "X",
    "image": "a.jpg",
    "price": 1.0,
    "updated_at": "2025-01-01T00:00:00Z",
}


def pictures_of(file: Path) -> list[tuple[str, ...]]:
    return [item.images for item in read_items(file).items]


def test_a_list_in_parquet_and_json_lines(tmp_path: Path) -> None:
    rows = [
        {**ROW, "item_id": name, "images": images}
        for name, images in (("a", ["b.jpg", "https://shop.example/c.jpg"]), ("b", []), ("c", None))
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "items.parquet")
    (tmp_path / "lines").mkdir()
    (tmp_path / "lines" / "items.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    for folder in (tmp_path, tmp_path / "lines"):
        file = next(folder.glob("items.*"))
        assert pictures_of(file) == [(str(folder / "b.jpg"), "https://shop.example/c.jpg"), (), ()]


def test_text_with_bars_in_csv(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text(
        ",".join([*ROW, "images"])
        + "\n"
        + "".join(
            ",".join([name, *[str(value) for value in ROW.values()][1:], images]) + "\n"
            for name, images in (("a", "b.jpg | /c.jpg||b.jpg"), ("b", ""))
        )
    )
    assert pictures_of(tmp_path / "items.csv") == [(str(tmp_path / "b.jpg"), "/c.jpg"), ()]


def test_the_main_picture_is_none_of_the_others(tmp_path: Path) -> None:
    images = [f"{number}.jpg" for number in range(20)]
    rows = [
        {**ROW, "images": [" a.jpg", *images]},
        {**ROW, "item_id": "b", "image": "", "images": ["", "b.jpg"]},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "items.parquet")
    assert pictures_of(tmp_path / "items.parquet") == [tuple(str(tmp_path / image) for image in images)]


def test_a_value_that_is_no_list_of_texts_and_one_of_too_many_reject_their_rows(tmp_path: Path) -> None:
    images = [["b.jpg"], [{"src": "b.jpg"}], [f"{number}.jpg" for number in range(21)]]
    rows = [{**ROW, "item_id": str(number), "images": each} for number, each in enumerate(images)]
    (tmp_path / "items.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    read = read_items(tmp_path / "items.jsonl")
    assert [item.item_id for item in read.items] == ["0"]
    assert read.counts.rejected == {
        "images is not a list of texts": 1,
        "images has more than 20 pictures": 1,
    }


def test_a_column_of_another_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="should hold lists of paths"):
        additional_pictures.pack(pa.array([1.5]), str(tmp_path), "items.parquet")


def test_without_the_column_there_are_no_further_pictures() -> None:
    assert additional_pictures.unpack(None) == ()


def test_an_object_is_no_path(tmp_path: Path) -> None:
    (tmp_path / "items.jsonl").write_text(
        json.dumps({**ROW, "images": {"url": "b.jpg"}}) + "\n" + json.dumps(ROW)
    )
    assert read_items(tmp_path / "items.jsonl").counts.rejected == {"images is not a list of texts": 1}


@pytest.mark.parametrize("kind", [pa.list_(pa.string(), 2), pa.list_view(pa.string())])
def test_lists_of_any_kind(kind: pa.DataType) -> None:
    packed, wrong = additional_pictures.pack(
        pa.array([["/b.jpg", "/c.jpg"], None], kind), "", "items.parquet"
    )
    assert (packed[0], packed.isna().tolist(), wrong) == ('["/b.jpg", "/c.jpg"]', [False, True], {})
