from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from immr.data.contract import IMPRESSIONS, ITEMS, QUERIES
from immr.datasets.broken_rows import with_broken_rows

NOW = datetime(2025, 1, 1, tzinfo=UTC)


def test_invalid_rows_are_appended_to_the_valid_ones(tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"x" * 3000)
    about = {"variant": "champion", "model_version": "immr-1", "ts": NOW}
    item = {"item_id": "a", "title": "Tea", "description": "", "category": "Drinks", "image": "a.jpg"}
    shown = {"query_id": "q", "item_id": "a", "position": 1, "clicked": True, "ordered": False}
    rows = [
        (ITEMS, item | {"price": 1.0, "updated_at": NOW, "stock": None}),
        (QUERIES, {"query_id": "q", "user_id": "ann", "ts": NOW, "image": str(photo)}),
        (IMPRESSIONS, shown | about),
    ]
    tables = {contract.name: pa.Table.from_pylist([row], contract.columns) for contract, row in rows}
    broken = with_broken_rows(tables, 6, tmp_path, tmp_path / "out")
    for name, table in tables.items():
        assert broken[name].slice(0, 1).equals(table)
    assert {name: len(table) - 1 for name, table in broken.items()} == {
        "items": 6,
        "queries": 6 + 3,
        "impressions": 6,
    }
    assert (tmp_path / "broken" / "cut.jpg").stat().st_size == 1500
    assert not (tmp_path / "broken" / "gone.jpg").exists()
