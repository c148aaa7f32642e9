"""Delivery from the journal to the event log: outages, restarts and refused events."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from immr.errors import EventLogError
from immr.events.delivery import Delivery
from immr.events.event_log import EventLog
from immr.events.journal import EventJournal
from immr.events.journal_entries import Clicked
from immr.events.sqlite.log import SqliteEventLog
from immr.types import Click, SearchRecord
from tests.events.test_journal import NOON, clicked, shown, synced
from tests.support.patience import until

__all__ = ["synced"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.db"


def deliver_to(path: Path, **more: Any) -> Delivery:
    return Delivery(lambda: SqliteEventLog(path), EventJournal(path.parent / "waiting"), **more)


def queries(path: Path) -> list[str]:
    log = SqliteEventLog(path)
    found: list[str] = log.searches()["query_id"].to_pylist()
    log.close()
    return found


def test_delivery_reports_how_many_clicks_were_new(path: Path) -> None:
    reported: list[tuple[str, int]] = []
    delivery = deliver_to(path, on_clicks=lambda clicked, new: reported.append((clicked.ticket, new)))
    delivery.shown(shown("q1"))
    assert delivery.clicked(clicked("q1")).result(timeout=20) == 1
    assert delivery.clicked(clicked("q1")).result(timeout=20) == 0
    delivery.close()
    assert reported == [("q1", 1), ("q1", 0)]
    log = SqliteEventLog(path)
    rows = log.joined().to_pylist()
    log.close()
    assert [(row["item_id"], row["clicked"]) for row in rows] == [("a", True), ("ü", False)]


def test_events_wait_while_the_log_is_down(path: Path) -> None:
    path.mkdir()  # in the way of the database
    delivery = deliver_to(path)
    delivery.shown(shown("q1"))
    new = delivery.clicked(clicked("q1"))
    until(lambda: delivery.away_because)
    assert not new.done() and delivery.waiting_bytes > 0
    path.rmdir()
    assert new.result(timeout=20) == 1
    assert not delivery.away_because and delivery.waiting_bytes == 0
    delivery.close()


def test_clicks_that_wait_for_the_log_take_no_memory_once_their_callers_have_left(path: Path) -> None:
    """Their number has no limit but that of the journal, 256 MiB."""
    path.mkdir()
    delivery = deliver_to(path)
    waits = delivery.clicked(clicked("q0"))
    for number in range(1, 50):
        delivery.clicked(clicked(f"q{number}"))
    until(lambda: delivery.away_because)
    assert list(delivery._waiting) == ["q0"]
    path.rmdir()
    assert waits.result(timeout=20) == 1
    delivery.close()
    log = SqliteEventLog(path)
    assert log.joined().num_rows == 0  # clicks alone
    log.close()


def test_events_that_wait_for_the_log_are_synced_to_the_disk(path: Path, synced: list[int]) -> None:
    path.mkdir()
    delivery = deliver_to(path)
    delivery.shown(shown("q1"))
    [file] = path.parent.rglob("*.jsonl")
    until(lambda: synced)
    assert file.stat().st_ino in synced
    delivery.close()


def test_the_next_process_delivers_what_a_stopped_one_left(path: Path) -> None:
    path.mkdir()
    delivery = deliver_to(path)
    delivery.shown(shown("q1"))
    delivery.close()
    path.rmdir()
    deliver_to(path).close()
    assert queries(path) == ["q1"]


def test_a_permanently_refused_search_is_set_aside_and_blocks_no_other(path: Path) -> None:
    refusals: list[None] = []
    delivery = deliver_to(path, on_refused=lambda: refusals.append(None))
    nobody: Any = None
    for entry in (shown("q1"), shown("q2", user=nobody), shown("q3")):
        delivery.shown(entry)
    assert delivery.clicked(clicked("q3")).result(timeout=20) == 1
    delivery.close()
    assert queries(path) == ["q1", "q3"]
    assert (delivery.refused, len(refusals), delivery.waiting_bytes) == (1, 1, 0)
    [line] = (path.parent / "waiting" / "refused.jsonl").read_text().splitlines()
    refused = json.loads(line)
    assert "searches.user_id" in refused["reason"]
    assert json.loads(refused["event"])["search"]["query_id"] == "q2"


def test_the_sender_of_refused_clicks_gets_an_answer(path: Path) -> None:
    delivery = deliver_to(path)
    nothing: Any = None
    broken = Clicked((Click("id", "click", "q", nothing, NOON),), "ticket", "champion", "immr-1")
    assert delivery.clicked(broken).result(timeout=20) == 0
    delivery.close()
    assert delivery.refused == 1


def test_a_broken_line_is_set_aside_and_no_longer_waits(path: Path) -> None:
    left = path.parent / "waiting" / "0" / "00000000.jsonl"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"{no json\n")
    delivery = deliver_to(path)
    delivery.close()
    assert not list(left.parent.glob("*.jsonl"))
    assert "{no json" in (path.parent / "waiting" / "refused.jsonl").read_text()
    assert delivery.refused == 1


def test_a_log_that_is_down_refuses_nothing_for_good(path: Path) -> None:
    class DownOnce(SqliteEventLog):
        calls = 0

        def record_search(self, search: SearchRecord, impressions: Any) -> int:
            DownOnce.calls += 1
            if DownOnce.calls == 1:
                raise EventLogError("down")
            return super().record_search(search, impressions)

    def open_log() -> EventLog:
        return DownOnce(path)

    delivery = Delivery(open_log, EventJournal(path.parent / "waiting"))
    delivery.shown(shown("q1"))
    until(lambda: DownOnce.calls > 1 and not delivery.waiting_bytes)
    delivery.close()
    assert (queries(path), delivery.refused) == (["q1"], 0)


def test_an_outage_while_a_refused_event_is_looked_for_loses_no_count(path: Path) -> None:
    """What the log has recorded before the outage is not recorded again, so it would count as repeated."""

    class DownAfterTheFirst(SqliteEventLog):
        commits = 0

        def record_all(self, searches: Any, clicks: Any) -> list[int]:
            if DownAfterTheFirst.commits == 1:
                DownAfterTheFirst.commits += 1
                raise EventLogError("down")
            new = super().record_all(searches, clicks)
            DownAfterTheFirst.commits += 1
            return new

    reported: list[tuple[str, int]] = []
    refusals: list[None] = []
    nobody: Any = None
    journal = EventJournal(path.parent / "waiting")
    for entry in (clicked("q1"), shown("q2", user=nobody), clicked("q3"), clicked("q4")):
        journal.append(entry)
    delivery = Delivery(
        lambda: DownAfterTheFirst(path),
        journal,
        on_clicks=lambda one, new: reported.append((one.ticket, new)),
        on_refused=lambda: refusals.append(None),
    )
    until(lambda: len(reported) == 3)
    delivery.close()
    assert reported == [("q1", 1), ("q3", 1), ("q4", 1)]
    assert (len(refusals), delivery.refused, delivery.waiting_bytes) == (1, 1, 0)
