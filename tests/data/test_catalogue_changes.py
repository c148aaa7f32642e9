"""What changed between two catalogues."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from immr.data.catalogue_changes import changes_between, listed_ids
from immr.data.sources.shop import Shop


def rows(*ids: str, **other: Any) -> list[dict[str, Any]]:
    """Rows of a training set's items."""
    common = {
        "title": "A pear",
        "description": "",
        "category": "Fruit",
        "image": "/pear.jpg",
        "price": 1.0,
        "updated_at": datetime(2025, 1, 1, tzinfo=UTC),
        "image_sha256": "a" * 64,
        "unseen": False,
    }
    return [{"item_id": id, **common, "class_id": number, **other} for number, id in enumerate(ids)]


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def test_new_items_are_changes_and_shifted_classes_are_not(tmp_path: Path) -> None:
    before = written(tmp_path / "before.parquet", rows("b", "c"))
    after = written(tmp_path / "after.parquet", rows("a", "b", "c"))
    changes = changes_between(before, after, {"a", "b", "c"})
    assert ([item.item_id for item in changes.items], changes.deleted) == (["a"], [])
    assert changes.items[0].attributes == {}


def test_another_price_or_picture_at_the_same_path_is_a_change(tmp_path: Path) -> None:
    before = written(tmp_path / "before.parquet", rows("a", "b", "c"))
    after = rows("a") + rows("b", price=2.0) + rows("c", image_sha256="b" * 64)
    changes = changes_between(before, written(tmp_path / "after.parquet", after), {"a", "b", "c"})
    assert [(item.item_id, item.price) for item in changes.items] == [("b", 2.0), ("c", 1.0)]


def test_an_item_whose_row_was_rejected_is_not_deleted(tmp_path: Path) -> None:
    before = written(tmp_path / "before.parquet", rows("a", "b", "c"))
    after = written(tmp_path / "after.parquet", rows("a"))
    changes = changes_between(before, after, {"a", "b"})
    assert (changes.items, changes.deleted) == ([], ["c"])
    delivered = written(tmp_path / "delivered.parquet", changes.after.to_pylist())
    assert changes_between(delivered, after, {"a"}).deleted == ["b"]  # once it is not listed either


def test_ids_of_invalid_rows_are_listed(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text(
        "item_id,title,description,category,image,price,updated_at\n"
        "007,A pear,,Fruit,pear.jpg,1.5,2025-01-01\n"
        "008,A pear,,Fruit,pear.jpg,gratis,2025-01-01\n"
    )
    assert listed_ids(Shop.catalogue(tmp_path / "items.csv")) == {"007", "008"}


def test_empty_values_and_further_pictures_are_compared(tmp_path: Path) -> None:
    same = {"stock": None, "images": '["/side.jpg"]'}
    before = written(
        tmp_path / "before.parquet", rows("a", "b", **same) + rows("c", "d", stock=1.0, images="[]")
    )
    later = rows("a", **same) + rows("b", stock=None, images='["/sole.jpg"]')
    later += rows("c", stock=None, images="[]") + rows("d", stock=1.0, images="[]")
    changes = changes_between(before, written(tmp_path / "after.parquet", later), {"a", "b", "c", "d"})
    assert [(item.item_id, item.images, item.stock) for item in changes.items] == [
        ("b", ("/sole.jpg",), None),
        ("c", (), None),
    ]
    assert changes.items[0].updated_at == later[1]["updated_at"]


def test_every_item_is_a_change_if_the_earlier_file_lacks_a_column(tmp_path: Path) -> None:
    before = written(tmp_path / "before.parquet", rows("a", "b"))  # of a release without stock
    after = written(tmp_path / "after.parquet", rows("a", "c", stock=1.0))
    changes = changes_between(before, after, {"a", "b", "c"})
    assert [item.item_id for item in changes.items] == ["a", "c"]
    assert changes.after.select(["item_id", "stock"]).to_pylist()[-1] == {"item_id": "b", "stock": None}
