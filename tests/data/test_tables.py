from pathlib import Path

import pyarrow as pa

from immr.data.contract import QUERIES
from immr.data.tables import readable, typed

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
