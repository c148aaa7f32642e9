"""What is proposed for a table as a whole; the columns' rules are in `tests/data/mapping/test_proposal.py`."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from immr.data.contract import ITEMS
from immr.data.sources.shop import Shop
from immr.data.validation.check import check
from immr.data.validation.table_proposal import proposed
from tests.data.validation.test_tables import changed, item, write


@pytest.mark.parametrize("name", ["price", "item_id"])
def test_a_column_that_is_there_twice_is_reported(tmp_path: Path, name: str) -> None:
    """No rule is proposed for it; the check stopped with a stack."""
    folder = write(tmp_path / "in")
    table = pq.read_table(folder / "items.parquet")
    twice = pa.Table.from_arrays([*table.columns, table[name]], names=[*table.column_names, name])
    pq.write_table(twice.rename_columns({"title": "name"}), folder / "items.parquet")
    report = next(each for each in check(folder) if each.name == "items")
    table_of_items = Shop.of(folder).table(ITEMS)
    assert table_of_items is not None and (found := proposed(table_of_items)) is not None
    assert found == report.proposal and found.rules["title"].column == "name" and name not in found.rules


@pytest.mark.parametrize(
    "values",
    [
        pa.array([b"a", b"b"], pa.binary_view()),
        pa.array([b"\xff", b"b"], pa.binary_view()),
        pa.array([["a"], ["b"]], pa.list_view(pa.string())),
    ],
)
@pytest.mark.parametrize("name", ["updated_at", "item_id", "price", "title"])
def test_views_in_any_column_are_reported(tmp_path: Path, name: str, values: pa.Array) -> None:
    """Arrow cannot filter them."""
    folder = write(tmp_path / "in", items=[item("a"), item("b")])
    changed(folder, "items", name, values)
    assert next(each for each in check(folder) if each.name == "items").files == 1


def test_prices_and_pictures_in_views_and_dictionaries_get_rules(tmp_path: Path) -> None:
    """As Polars and pandas write text."""
    folder = write(tmp_path / "in", items=[item("a"), item("b")])
    changed(folder, "items", "price", pa.array(["1.299,00 €", "5,90 €"], pa.string_view()))
    changed(folder, "items", "image", pa.array(["a.jpg,b.jpg", "c.jpg"]).dictionary_encode())
    report = next(each for each in check(folder) if each.name == "items")
    assert report.proposal is not None
    assert report.proposal.rules["price"].decimal == "," and report.proposal.rules["image"].separator == ","
