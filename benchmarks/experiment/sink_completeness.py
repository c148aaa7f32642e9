"""Does the Parquet that `immr events sink` writes hold what went into the journal, and nothing twice?

Part of `python -m benchmarks.experiment.readout_time`. Searches and clicks go the gateway's way: into the journal,
and from there to the event log, a tenth of them twice. Then the folder is compared with what was sent.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

from immr.events.delivery import Delivery
from immr.events.journal import EventJournal
from immr.events.journal_entries import Clicked, Shown
from immr.events.sink import sink
from immr.events.sqlite.log import SqliteEventLog
from immr.types import Click, SearchRecord

PER_SEARCH = 10
_STARTED = datetime(2026, 9, 1, tzinfo=UTC)
_TOTALS = """SELECT
    (SELECT count(*) FROM '{folder}/searches/*/*.parquet'),
    (SELECT count(*) FROM '{folder}/impressions/*/*.parquet'),
    (SELECT count(*) FROM '{folder}/clicks/*/*.parquet'),
    (SELECT count(*) FROM '{folder}/impressions/*/*.parquet' WHERE clicked)"""


def parquet_equals_journal(folder: Path, searches: int = 20_000) -> bool:
    """Whether searches, impressions, clicks and clicked impressions are those that were sent."""
    log = folder / "events.db"
    delivery = Delivery(lambda: SqliteEventLog(log, synchronous="NORMAL"), EventJournal(folder / "waiting"))
    clicks = 0
    for number in range(searches):
        shown, clicked = _events(number)
        for _ in range(2 if number % 10 == 0 else 1):
            delivery.shown(shown)
            if clicked is not None:
                delivery.clicked(clicked)
        clicks += clicked is not None
    delivery.close()
    events = SqliteEventLog(log)
    sink(events, folder / "out")
    events.close()
    [totals] = duckdb.sql(_TOTALS.format(folder=folder / "out")).fetchall()
    return bool(totals == (searches, searches * PER_SEARCH, clicks, clicks))


def _events(number: int) -> tuple[Shown, Clicked | None]:
    """A search, and for every third one a click on one of its items; ten days in all."""
    ts = _STARTED + timedelta(seconds=number * 43)
    query, variant, version = f"q{number}", ("champion", "challenger")[number % 2], f"immr-{number % 2 + 1}"
    search = SearchRecord(query, f"u{number % 5000}", ts, variant, version, 20.0, PER_SEARCH)
    shown = Shown(search, tuple((f"i{place}", place) for place in range(1, PER_SEARCH + 1)))
    if number % 3:
        return shown, None
    item = f"i{number % PER_SEARCH + 1}"
    click = Click(f"{query}/{item}", "click", query, item, ts + timedelta(minutes=3))
    return shown, Clicked((click,), f"ticket-{number}", variant, version)
