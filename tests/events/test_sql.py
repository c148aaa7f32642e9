"""What the SQL event logs share; both logs run the whole contract in tests/contracts/test_events_contract.py."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from immr.errors import EventRefusedError
from immr.events import sql
from immr.events.event_log import CLICKS_SCHEMA, SEARCHES_SCHEMA
from immr.types import Click, SearchRecord

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


class Fetched:
    """A cursor over rows."""

    def __init__(self, rows: list[sql.Row]) -> None:
        self.rows = rows

    def fetchmany(self, size: int, /) -> list[sql.Row]:
        taken, self.rows = self.rows[:size], self.rows[size:]
        return taken


def test_batches_have_all_rows_of_the_cursor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "_ROWS_PER_BATCH", 2)
    schema = pa.schema([("id", pa.int64()), ("clicked", pa.bool_())])
    batches = list(sql.batches_of(Fetched([(row, row % 2) for row in range(5)]), schema))
    assert [batch.num_rows for batch in batches] == [2, 2, 1]
    table = pa.Table.from_batches(batches)
    assert table.to_pydict() == {"id": [0, 1, 2, 3, 4], "clicked": [False, True, False, True, False]}
    assert list(sql.batches_of(Fetched([]), schema)) == []


def test_rows_have_the_order_of_the_tables_that_are_read() -> None:
    search = SearchRecord("q", "ann", NOON, "champion", "immr-1", 1.5, 3, False, True, "{}")
    click = Click("e", "order", "q", "i", NOON, 12.5)
    for record, row, schema in (
        (search, sql.search_row(search, sql.microseconds), SEARCHES_SCHEMA),
        (click, sql.click_row(click, sql.microseconds), CLICKS_SCHEMA),
    ):
        given = {each.name: getattr(record, each.name) for each in fields(record)}
        [batch] = sql.batches_of(Fetched([row]), schema)
        assert batch.to_pylist() == [given]


def test_times_need_a_zone_and_keep_their_microseconds() -> None:
    assert sql.microseconds(sql.EPOCH - timedelta(microseconds=3)) == -3
    assert sql.microseconds(NOON.astimezone()) == sql.microseconds(NOON)
    with pytest.raises(EventRefusedError, match="has no time zone"):
        sql.microseconds(NOON.replace(tzinfo=None))
