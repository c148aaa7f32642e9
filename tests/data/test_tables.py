import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from immr.data.contract import JUDGEMENTS, QUERIES
from immr.data.tables import chunks, columns_of, files_of, readable, typed
from immr.errors import ContractError

ROW = {"query_id": "q1", "user_id": "ann", "ts": "2025-01-01T12:00:00Z", "image": "photos/q1.jpg"}
CSV = "query_id,user_id,ts,image\n" + ",".join(ROW.values()) + "\n"


def rows_of(path: Path) -> list[dict[str, object]]:
    return [row for batch in chunks(path, QUERIES) for row in batch.to_pylist()]


@pytest.mark.parametrize("name", ["queries.csv", "queries.csv.gz", "queries.jsonl", "queries.parquet"])
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist([ROW]), path)
    elif name.endswith(".jsonl"):
        path.write_text(str(ROW).replace("'", '"') + "\n\n")
    else:
        path.write_bytes(gzip.compress(CSV.encode()) if name.endswith(".gz") else CSV.encode())
    assert files_of(tmp_path, QUERIES) == [path]
    assert columns_of(path) == list(ROW)
    assert rows_of(path) == [ROW]


def test_parts_and_folders_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in (
        "queries-2.csv",
        "queries-1.csv",
        "queries/day=1/part.csv",
        "queries/_SUCCESS",
        ".queries.csv",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(CSV)
    names = [path.relative_to(tmp_path).as_posix() for path in files_of(tmp_path, QUERIES)]
    assert names == ["queries/day=1/part.csv", "queries-1.csv", "queries-2.csv"]


def test_a_table_that_is_missing_or_there_twice_is_named(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"queries\.parquet is missing.*query_id, user_id, ts, image"):
        files_of(tmp_path, QUERIES)
    assert files_of(tmp_path, JUDGEMENTS) == []  # optional
    for suffix in (".csv", ".jsonl"):
        (tmp_path / f"queries{suffix}").write_text(CSV)
    with pytest.raises(ContractError, match="keep one of them"):
        files_of(tmp_path, QUERIES)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("query_id,user_id,ts\n", "has no column image"),
        ("query_id,user_id,ts,image,image\n", "has the column image more than once"),
    ],
)
def test_wrong_columns_are_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "queries.csv").write_text(content)
    with pytest.raises(ContractError, match=message):
        rows_of(tmp_path / "queries.csv")


def test_a_broken_line_is_named_by_its_number(tmp_path: Path) -> None:
    (tmp_path / "queries.jsonl").write_text(str(ROW).replace("'", '"') + "\n{broken\n")
    with pytest.raises(ContractError, match=r"line 2 of .*queries\.jsonl is not JSON"):
        rows_of(tmp_path / "queries.jsonl")


def test_relative_pictures_are_placed_and_wrong_values_marked(tmp_path: Path) -> None:
    batch = pa.RecordBatch.from_pylist([ROW, ROW | {"ts": "noon", "image": "https://shop/a.jpg"}])
    found = typed(batch, QUERIES, tmp_path / "queries.csv", beside=tmp_path)
    assert found.frame["image"].tolist() == [f"{tmp_path}/photos/q1.jpg", "https://shop/a.jpg"]
    [(reason, rows)] = found.unreadable.items()
    assert reason.startswith("ts is not a valid time") and rows.tolist() == [False, True]


def test_bytes_that_are_not_text_become_readable() -> None:
    broken = pa.array([b"caf\xe9", b"tea"], pa.binary()).view(pa.string())
    assert readable(pa.table({"title": broken}))["title"].to_pylist() == ["caf�", "tea"]
