from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from immr.data.contract import IMPRESSIONS
from immr.data.validation.duplicate_rows import LaterRows, merge_into_first
from immr.data.validation.known_keys import hashes_of

NOW = datetime(2025, 1, 1, tzinfo=UTC)
ABOUT = {"position": 1, "variant": "champion", "model_version": "immr-1", "ts": NOW}


def shown(item: str, clicked: bool = False, ordered: bool = False) -> dict[str, object]:
    return {"query_id": "q", "item_id": item, "clicked": clicked, "ordered": ordered} | ABOUT


def later(*rows: dict[str, object]) -> LaterRows:
    frame = pd.DataFrame(rows).astype({"query_id": pd.ArrowDtype(pa.string())})
    frame = frame.astype({"item_id": pd.ArrowDtype(pa.string())})
    return LaterRows.of(frame, hashes_of(frame, IMPRESSIONS.key), IMPRESSIONS)


def test_a_later_click_marks_the_first_row(tmp_path: Path) -> None:
    path = tmp_path / "impressions.parquet"
    pq.write_table(pa.Table.from_pylist([shown("a"), shown("b", clicked=True)], IMPRESSIONS.columns), path)
    merge_into_first(path, IMPRESSIONS, [later(shown("a", clicked=True)), later(shown("a"), shown("b"))])
    rows = pq.read_table(path).to_pylist()
    assert [(row["item_id"], row["clicked"], row["ordered"]) for row in rows] == [
        ("a", True, False),
        ("b", True, False),
    ]


def test_the_file_is_left_alone_if_no_later_row_was_clicked(tmp_path: Path) -> None:
    path = tmp_path / "impressions.parquet"
    pq.write_table(pa.Table.from_pylist([shown("a")], IMPRESSIONS.columns), path)
    before = path.stat().st_mtime_ns
    merge_into_first(path, IMPRESSIONS, [later(shown("a"))])
    assert path.stat().st_mtime_ns == before
    assert np.array_equal(list(tmp_path.iterdir()), [path])
