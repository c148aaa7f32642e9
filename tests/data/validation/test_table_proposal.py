"""What is proposed for a table as a whole; the columns' rules are in `tests/data/mapping/test_proposal.py`."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from immr.data.contract import ITEMS
from immr.data.sources.shop import Shop
from immr.data.validation.check import check
from immr.data.validation.table_proposal import proposed
from tests.data.validation.test_tables import write


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
