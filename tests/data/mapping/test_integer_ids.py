"""Ids of columns with gaps, as pandas writes them."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from immr.data.contract import ITEMS
from immr.data.item_changes import read_ids
from immr.data.mapping.integer_ids import IntegerIds
from immr.data.sources.shop import Shop
from immr.data.validation.tables import admit
from tests.data.validation.test_tables import impression, item, query, write


def of_column(*batches: list[str | None]) -> list[str | None]:
    arrays = [pa.array(batch, pa.string()) for batch in batches]
    ids = IntegerIds(lambda _: arrays)
    return [each for array in arrays for each in ids.of_column("item_id", array).to_pylist()]


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (["17.0", None, "18.0"], ["17", None, "18"]),
        (["17", "", "nan", "18.0"], ["17", "", "nan", "18"]),  # two files in one
        (["1.0", "1.5"], ["1.0", "1.5"]),
        (["A-1", "1.0"], ["A-1", "1.0"]),
        (["1.00", "2.0"], ["1.00", "2.0"]),
        (["1234567890123456.0"], ["1234567890123456.0"]),  # rounded, perhaps
        ([None], [None]),
    ],
)
def test_only_if_all_ids_are_whole_numbers(given: list[str | None], read: list[str | None]) -> None:
    assert of_column(given) == read


@pytest.mark.parametrize("later", ["17.5", "x"])
def test_all_rows_decide(later: str) -> None:
    """The first rows did: 17.0 and 17 became one item."""
    assert of_column([None, ""], ["17.0"], [later, "18.0"]) == [None, "", "17.0", later, "18.0"]
    assert of_column([later], ["17.0"]) == [later, "17.0"]
    assert of_column(["17"], ["18.0"]) == ["17", "18"]


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_an_id_at_the_end_of_a_large_file_decides(tmp_path: Path, form: str) -> None:
    rows = [item("17.0")] * 20 + [item("17.5")]
    write(tmp_path, items=rows)
    (tmp_path / "items.parquet").unlink()
    frame = pd.DataFrame(rows)
    if form == "csv":
        frame.to_csv(tmp_path / "items.csv", index=False)
    else:
        frame.to_json(tmp_path / "items.jsonl", orient="records", lines=True, date_format="iso")
    table = Shop.of(tmp_path).table(ITEMS)
    assert table is not None
    for columns in (None, ["item_id"]):
        ids = [each for chunk in table.chunks(5, columns) for each in chunk.mapped["item_id"].to_pylist()]
        assert ids == [*["17.0"] * 20, "17.5"]


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_ids_meet_although_one_table_has_gaps(tmp_path: Path, form: str) -> None:
    """All rows of the table with the gap were rejected, because none of its ids was among the items."""
    folder = write(
        tmp_path / "in",
        items=[item("17"), item("18")],
        queries=[query("1"), query("2")],
    )
    rows = [impression("1", "17"), impression("1", "18"), impression("2", "18")]
    shown = pd.DataFrame(rows).assign(item_id=[17, None, 18], query_id=[1, 1, 2])
    (folder / "impressions.parquet").unlink()
    if form == "csv":
        shown.to_csv(folder / "impressions.csv", index=False)
        assert ",17.0," in (folder / "impressions.csv").read_text()
    else:
        shown.to_json(folder / "impressions.jsonl", orient="records", lines=True, date_format="iso")
    found = admit(folder, tmp_path / "out")
    why = "item_id is empty" if form == "csv" else "item_id is missing"
    assert found.tables["impressions"].rejected == {why: 1}
    assert pq.read_table(found.path("impressions"))["item_id"].to_pylist() == ["17", "18"]


def test_an_id_of_a_float_that_is_too_long_is_rejected(tmp_path: Path) -> None:
    folder = write(tmp_path / "in", items=[item("a"), item("1234567890123456.0")])
    found = admit(folder, tmp_path / "out").tables["items"]
    assert found.valid == 1
    assert next(iter(found.rejected)).startswith("item_id is a rounded number")


def test_deleted_ids_are_read_alike(tmp_path: Path) -> None:
    pd.DataFrame({"item_id": [17, 18], "why": "sold"}).astype({"item_id": float}).to_csv(
        tmp_path / "gone.csv"
    )
    assert read_ids(tmp_path / "gone.csv") == ["17", "18"]
