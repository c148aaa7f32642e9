"""How many searches does an event log take, and how soon does it answer? The same events in each log.

python -m benchmarks.event_logs                                       # SQLite, and PostgreSQL if it is installed
python -m benchmarks.event_logs --url postgresql://me@host/database   # a server of yours; uses its schema `benchmark`
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.figures import JsonFile, write_figures
from immr.events.delivery import Delivery
from immr.events.event_log import EventLog
from immr.events.journal import EventJournal
from immr.events.journal_entries import Clicked, Shown
from immr.events.postgres.log import PostgresEventLog
from immr.events.sqlite.log import SqliteEventLog
from immr.types import Click, SearchRecord
from tests.support import postgres_server

PER_SEARCH = 10
CLICK_EVERY = 3
START = datetime(2024, 5, 1, tzinfo=UTC)


def events(searches: int) -> Iterator[Shown | Clicked]:
    """Searches of ten hits over a week, a third of them with a click."""
    for number in range(searches):
        ts, query = START + timedelta(days=7) * (number / searches), f"query-{number:032d}"
        version = ("champion", "immr-1") if number % 2 else ("challenger", "immr-2")
        user = f"user-{number % (searches // 5 + 1)}"
        items = tuple((f"item-{(number * 7 + place) % 5000}", place) for place in range(1, PER_SEARCH + 1))
        yield Shown(SearchRecord(query, user, ts, *version, 10.0, PER_SEARCH, False, False), items, ())
        if number % CLICK_EVERY == 0:
            click = Click(f"{query}/click", "click", query, items[0][0], ts + timedelta(seconds=5))
            yield Clicked((click,), query, *version)


def measure(open_log: Callable[[], EventLog], folder: Path, searches: int) -> dict[str, float]:
    """Searches per second through a gateway's journal, and seconds of each read."""
    delivery, start = Delivery(open_log, EventJournal(folder)), time.perf_counter()
    for event in events(searches):
        if isinstance(event, Shown):
            delivery.shown(event)
        else:
            last = delivery.clicked(event)
    last.result(3600)
    while delivery.waiting_bytes:
        time.sleep(0.01)
    found = {"searches_per_s": searches / (time.perf_counter() - start)}
    delivery.close()
    log, hour_ago = open_log(), START + timedelta(days=7, hours=-1)
    reads: dict[str, Callable[[], object]] = {
        "by_query_s": log.by_query,
        "joined_s": log.joined,
        "ctr_over_time_s": lambda: log.ctr_over_time(3600),
        "last_hour_s": lambda: log.ctr_over_time(60, hour_ago),
        "funnel_s": log.funnel,
    }
    for name, read in reads.items():
        start = time.perf_counter()
        read()
        found[name] = time.perf_counter() - start
    log.close()
    return found


def main(
    searches: Annotated[int, typer.Option(help="Searches of ten hits.")] = 100_000,
    url: Annotated[str, typer.Option(help="A PostgreSQL server; by default one is started here.")] = "",
    json_file: JsonFile = None,
) -> None:
    """Fill each log with the same events, then read it."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if not url:
            url = stack.enter_context(postgres_server.serving(fsync=True)).url
        rows = {
            "SQLite": measure(lambda: SqliteEventLog(folder / "events.db"), folder / "one", searches),
            "PostgreSQL": measure(
                lambda: PostgresEventLog(f"{url}?schema=benchmark"), folder / "two", searches
            ),
        }
    table = Table("", *next(iter(rows.values())), title=f"{searches:,} searches, {PER_SEARCH} hits each")
    for name, found in rows.items():
        table.add_row(
            name, *(f"{value:,.3g}" if value < 100 else f"{value:,.0f}" for value in found.values())
        )
    Console().print(table)
    write_figures(json_file, rows)


if __name__ == "__main__":
    typer.run(main)
