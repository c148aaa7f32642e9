from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from immr.data.contract import IMPRESSIONS, QUERIES
from immr.features.logged_queries import LoggedQueries

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


@pytest.fixture
def logged(tmp_path: Path) -> LoggedQueries:
    """A shopper's query with two impressions, one of them clicked, an older query, and forty of a crawler."""
    shown = [
        ("q1", "a", 1, True, NOON),
        ("q1", "b", 2, False, NOON),
        ("old", "a", 1, True, NOON - timedelta(days=9)),
    ]
    asked = [("q1", "ann", NOON), ("old", "ann", NOON - timedelta(days=9))]
    for number in range(40):
        ts = NOON + timedelta(milliseconds=number)
        shown.append((f"c{number}", "a", 1, False, ts))
        asked.append((f"c{number}", "crawler", ts))
    impressions = [
        (q, item, at, clicked, False, "control", "former", ts) for q, item, at, clicked, ts in shown
    ]
    for contract, rows in (
        (IMPRESSIONS, impressions),
        (QUERIES, [(q, user, ts, "x.jpg") for q, user, ts in asked]),
    ):
        columns = [list(column) for column in zip(*rows, strict=True)]
        table = pa.Table.from_arrays(
            [pa.array(values, field.type) for values, field in zip(columns, contract.columns, strict=True)],
            schema=contract.columns,
        )
        pq.write_table(table, tmp_path / f"{contract.name}.parquet")
    files = [tmp_path / f"{name}.parquet" for name in ("impressions", "queries")]
    return LoggedQueries.counted(*files, NOON - timedelta(days=7), tmp_path / "it's counted.parquet")


def test_queries_of_the_time_are_counted(logged: LoggedQueries) -> None:
    rows = {row["query_id"]: row for row in pq.read_table(logged.file).to_pylist()}
    assert (len(rows), rows["q1"]["user_id"], rows["q1"]["clicks"]) == (41, "ann", 1)
    assert logged.newest() == NOON + timedelta(milliseconds=39)


def test_bots_are_those_of_the_readout(logged: LoggedQueries, tmp_path: Path) -> None:
    assert logged.bots() == ["crawler"]
    file = logged.write_those_of_bots(tmp_path / "of bots.parquet")
    assert sorted(pq.read_table(file)["query_id"].to_pylist()) == sorted(f"c{number}" for number in range(40))


def test_a_file_without_rows_has_no_newest(tmp_path: Path) -> None:
    pq.write_table(QUERIES.columns.empty_table(), tmp_path / "queries.parquet")
    assert LoggedQueries(tmp_path / "queries.parquet").newest() is None
