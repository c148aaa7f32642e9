from pathlib import Path

import duckdb
import pytest

from immr.data.sources.warehouse import WarehousePart
from immr.errors import ContractError


def test_rows_are_counted_by_the_warehouse(tmp_path: Path) -> None:
    with duckdb.connect(tmp_path / "shop.db") as base:
        base.execute("CREATE TABLE items AS SELECT i::VARCHAR AS item_id FROM range(7) t(i)")
    url = f"duckdb://{tmp_path / 'shop.db'}"
    assert WarehousePart(url, "items").rows() == 7
    with pytest.raises(ContractError, match="table nothing cannot be read"):
        WarehousePart(url, "nothing").rows()
