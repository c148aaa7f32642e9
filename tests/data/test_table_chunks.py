import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa

from immr.data.contract import ITEMS, QUERIES
from immr.data.table_chunks import readable, rows_where, typed

ROW = {"query_id": "q1", "user_id": "ann", "ts": "2025-01-01T12:00:00Z", "image": "photos/q1.jpg"}


def test_relative_paths_are_resolved_and_invalid_values_marked(tmp_path: Path) -> None:
    batch = pa.RecordBatch.from_pylist([ROW, ROW | {"ts": "noon", "image": "https://shop/a.jpg"}])
    found = typed(batch, QUERIES, "queries.csv", str(tmp_path))
    assert found.frame["image"].tolist() == [f"{tmp_path}/photos/q1.jpg", "https://shop/a.jpg"]
    [(reason, rows)] = found.unreadable.items()
    assert reason.startswith("ts is not a valid time") and rows.tolist() == [False, True]


def test_bytes_that_are_not_text_become_readable() -> None:
    broken = pa.array([b"caf\xe9", b"tea"], pa.binary()).view(pa.string())
    assert readable(pa.table({"title": broken}))["title"].to_pylist() == ["caf�", "tea"]


def test_rows_of_any_types_can_be_chosen() -> None:
    """Arrow filters no views, as Polars and DataFusion write text."""
    views = pa.array(["tea", None, "milk"], pa.string_view())
    lists = pa.array([[1], None, [2]], pa.list_view(pa.int64()))
    batch = pa.RecordBatch.from_pydict({"title": views, "sizes": lists, "price": pa.array([1, 2, 3])})
    found = rows_where(batch, np.array([False, True, True]))
    assert found["title"].to_pylist() == [None, "milk"] and found["price"].to_pylist() == [2, 3]
    assert found["sizes"].to_pylist() in ([None, [2]], [None, "[2]"])


def test_equal_categories_and_places_of_pictures_are_written_alike(tmp_path: Path) -> None:
    item = {"item_id": "a", "title": "Tea", "description": "", "price": 1.0, "updated_at": "2025-01-01"}
    categories = ["Äpfel/Rot", " A\u0308pfel / Rot ", "/Äpfel//Rot/"]
    images = ["a.jpg", " a.jpg", "a.jpg\n"]
    pairs = zip(categories, images, strict=True)
    batch = pa.RecordBatch.from_pylist([item | {"category": each, "image": image} for each, image in pairs])
    found = typed(batch, ITEMS, "items.csv", str(tmp_path)).frame
    assert found["category"].tolist() == ["Äpfel/Rot"] * 3
    assert found["image"].tolist() == [f"{tmp_path}/a.jpg"] * 3


def test_a_stock_below_zero_is_sold_out(tmp_path: Path) -> None:
    """Shopify and Magento count on when they take orders beyond the stock."""
    item = {"item_id": "a", "title": "Tea", "description": "", "category": "Drinks", "price": 1.0}
    item |= {"image": "a.jpg", "updated_at": "2025-01-01"}
    batch = pa.RecordBatch.from_pylist(
        [item | {"stock": stock} for stock in (-3.0, 0.0, 2.5, -math.inf, None)]
    )
    found = typed(batch, ITEMS, "items.csv", str(tmp_path)).frame["stock"].tolist()
    assert found[:4] == [0.0, 0.0, 2.5, -math.inf] and math.isnan(found[4])


def test_an_item_may_lack_its_main_picture_and_have_others(tmp_path: Path) -> None:
    """Its row is rejected later; it stopped the whole run."""
    item = {"item_id": "a", "title": "Tea", "description": "", "category": "Drinks", "price": 1.0}
    item |= {"updated_at": "2025-01-01", "images": ["b.jpg", "a.jpg"]}
    batch = pa.RecordBatch.from_pylist([item | {"image": image} for image in ("a.jpg", None)])
    found = typed(batch, ITEMS, "items.csv", str(tmp_path)).frame
    assert found["image"].isna().tolist() == [False, True]
    assert (
        json.loads(found["images"][0]) == [f"{tmp_path}/b.jpg"] and len(json.loads(found["images"][1])) == 2
    )
