"""Events that wait on disk: kept in order, through crashes, up to a bound."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import pytest

from immr.errors import EventLogError
from immr.events.delivery import Delivery
from immr.events.entries import Clicked, Shown
from immr.events.event_log import EventLog
from immr.events.journal import MAX_WAITING_BYTES, EventJournal
from immr.events.sqlite import SqliteEventLog
from immr.types import Click, SearchRecord
from tests.support.patience import until

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


class Opener(Protocol):
    def __call__(self, folder: Path, max_bytes: int = ...) -> EventJournal: ...


@pytest.fixture
def opened() -> Iterator[Opener]:
    """Opens journals, and closes them after the test."""
    with ExitStack() as stack:
        yield lambda folder, max_bytes=MAX_WAITING_BYTES: stack.enter_context(
            closing(EventJournal(folder, max_bytes))
        )


def shown(query: str, user: str = "ann") -> Shown:
    return Shown(SearchRecord(query, user, NOON, "champion", "immr-1", 12.5, 2), (("a", 1), ("ü", 2)))


def clicked(query: str) -> Clicked:
    return Clicked((Click(f"{query}/a", "click", query, "a", NOON),), query, "champion", "immr-1")


def drain(journal: EventJournal, limit: int = 3) -> list[str]:
    queries = []
    while (batch := journal.next(limit)).entries:
        journal.delivered(batch)
        queries += [entry.search.query_id for entry in batch.entries if isinstance(entry, Shown)]
    return queries


def test_what_goes_in_comes_out_in_order(tmp_path: Path, opened: Opener) -> None:
    journal = opened(tmp_path)
    entries = [shown("q1"), clicked("q1"), shown("q2")]
    for entry in entries:
        journal.append(entry)
    assert journal.next(2).entries == entries[:2]
    batch = journal.next(9)
    assert batch.entries == entries
    journal.delivered(batch)
    assert journal.next(9).entries == [] and journal.waiting_bytes == 0


def test_what_is_not_delivered_is_there_after_a_restart(tmp_path: Path) -> None:
    journal = EventJournal(tmp_path)
    for number in range(5):
        journal.append(shown(f"q{number}"))
    journal.close()
    again = EventJournal(tmp_path)
    again.append(shown("q5"))
    assert drain(again) == [f"q{number}" for number in range(6)]
    again.close()
    assert list(tmp_path.rglob("*.jsonl")) == []


def test_large_journals_are_many_files_that_go_as_they_are_delivered(tmp_path: Path, opened: Opener) -> None:
    journal = opened(tmp_path)
    long = "u" * 100_000
    for number in range(60):
        journal.append(shown(f"q{number}", long))
    assert len(list(tmp_path.rglob("*.jsonl"))) == 2
    assert drain(journal, limit=7) == [f"q{number}" for number in range(60)]
    assert len(list(tmp_path.rglob("*.jsonl"))) == 1


def test_no_more_waits_than_the_bound(tmp_path: Path, opened: Opener) -> None:
    journal = opened(tmp_path, max_bytes=600)
    taken = 0
    with pytest.raises(EventLogError, match="no more may"):
        for taken in range(10):
            journal.append(shown(f"q{taken}"))
    assert drain(journal) == [f"q{number}" for number in range(taken)]


def test_two_processes_have_folders_of_their_own(tmp_path: Path, opened: Opener) -> None:
    first, second = opened(tmp_path), opened(tmp_path)
    first.append(shown("q1"))
    second.append(shown("q2"))
    assert (drain(first), drain(second)) == (["q1"], ["q2"])


def test_a_broken_line_does_not_hold_up_the_others(tmp_path: Path, opened: Opener) -> None:
    journal = opened(tmp_path)
    journal.append(shown("q1"))
    [file] = tmp_path.rglob("*.jsonl")
    with file.open("ab") as behind:
        behind.write(b"{no json\n")
    journal.append(shown("q2"))
    assert drain(journal) == ["q1", "q2"]


def test_a_line_of_a_newer_release_is_read_without_what_is_new(tmp_path: Path, opened: Opener) -> None:
    journal = opened(tmp_path)
    journal.append(shown("q1"))
    journal.append(clicked("q1"))
    [file] = tmp_path.rglob("*.jsonl")
    search, clicks = map(json.loads, file.read_text().splitlines())
    search["search"]["new"] = search["new"] = clicks["new"] = clicks["clicks"][0]["new"] = 1
    file.write_text(f"{json.dumps(search)}\n{json.dumps(clicks)}\n")
    assert journal.next(9).entries == [shown("q1"), clicked("q1")]


def test_long_lines_come_in_small_batches(tmp_path: Path, opened: Opener) -> None:
    journal = opened(tmp_path)
    for number in range(60):
        journal.append(shown(f"q{number}", LONG))
    assert 5 < len(journal.next(500).entries) < 15
    assert drain(journal, limit=500) == [f"q{number}" for number in range(60)]


def test_half_a_character_is_refused_at_the_door(tmp_path: Path, opened: Opener) -> None:
    journal = opened(tmp_path)
    with pytest.raises(EventLogError, match="no text"):
        journal.append(shown("q", "\ud800"))
    assert drain(journal) == []


def test_broken_lines_alone_wait_no_longer(tmp_path: Path) -> None:
    left = tmp_path / "waiting" / "0" / "00000000.jsonl"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"{no json\n")
    Delivery(lambda: SqliteEventLog(tmp_path / "events.db"), EventJournal(tmp_path / "waiting")).close()
    assert list(tmp_path.rglob("*.jsonl")) == []


LONG = "u" * 100_000  # 60 of these are more than a file


def test_whoever_appends_waits_for_no_disk(
    tmp_path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, ready = threading.Event(), threading.Event()

    def fsync(descriptor: int) -> None:
        reached.set()
        assert ready.wait(60)

    monkeypatch.setattr(os, "fsync", fsync)
    journal = opened(tmp_path)
    journal.append(shown("first"))
    syncing = threading.Thread(target=journal.sync)
    appending = threading.Thread(target=lambda: [journal.append(shown("q", LONG)) for _ in range(60)])
    syncing.start()
    assert reached.wait(20)
    appending.start()
    appending.join(10)
    held_up = appending.is_alive()
    ready.set()
    syncing.join()
    assert not held_up and len(drain(journal)) == 61


def test_a_sync_reaches_every_file_that_has_what_was_appended(
    tmp_path: Path, opened: Opener, synced: list[int]
) -> None:
    journal = opened(tmp_path)
    for number in range(60):
        journal.append(shown(f"q{number}", LONG))
    files = sorted(tmp_path.rglob("*.jsonl"))
    names = [path.stat().st_ino for path in (*files, files[0].parent)]
    assert len(files) == 2 and synced == []
    journal.sync()
    assert synced == names
    journal.sync()
    assert synced == names + names[1:], "a full file is synced once"


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The inodes of what was brought to the disk."""
    found, fsync = [], os.fsync

    def noted(descriptor: int) -> None:
        fsync(descriptor)
        found.append(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", noted)
    return found


def test_a_disk_that_took_no_new_file_for_a_while_gets_one_later(tmp_path: Path, opened: Opener) -> None:
    journal = opened(tmp_path / "waiting")
    (tmp_path / "waiting").rename(tmp_path / "away")
    taken = 0
    with pytest.raises(EventLogError, match="takes no event"):
        for taken in range(60):
            journal.append(shown(f"q{taken}", LONG))
    (tmp_path / "away").rename(tmp_path / "waiting")
    journal.append(shown("last"))
    assert drain(journal) == [*(f"q{number}" for number in range(taken)), "last"]


WRITER = """
import sys
from pathlib import Path
from immr.events.journal import EventJournal
from tests.events.test_journal import shown
journal = EventJournal(Path(sys.argv[1]))
for number in range(1_000_000):
    journal.append(shown(f"q{number}"))
    print(f"q{number}", flush=True)
"""


def test_what_was_taken_survives_sigkill(tmp_path: Path, opened: Opener) -> None:
    left = opened(tmp_path)  # so that the killed one's folder is another than its heir's
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        seen = [writer.stdout.readline().strip() for _ in range(50)]
        writer.send_signal(signal.SIGKILL)
        seen += writer.stdout.read().split()
    left.close()
    assert drain(opened(tmp_path), limit=100)[: len(seen)] == seen


def test_delivery_tells_how_many_clicks_were_new(tmp_path: Path) -> None:
    told: list[tuple[str, int]] = []
    delivery = Delivery(
        lambda: SqliteEventLog(tmp_path / "events.db"),
        EventJournal(tmp_path / "waiting"),
        lambda clicked, new: told.append((clicked.ticket, new)),
    )
    delivery.shown(shown("q1"))
    assert delivery.clicked(clicked("q1")).result(timeout=20) == 1
    assert delivery.clicked(clicked("q1")).result(timeout=20) == 0
    delivery.close()
    assert told == [("q1", 1), ("q1", 0)]
    log = SqliteEventLog(tmp_path / "events.db")
    assert [(row["item_id"], row["clicked"]) for row in log.joined().to_pylist()] == [
        ("a", True),
        ("ü", False),
    ]


def test_delivery_waits_for_a_log_that_is_away(tmp_path: Path) -> None:
    (tmp_path / "events.db").mkdir()  # in its way

    def open_log() -> EventLog:
        return SqliteEventLog(tmp_path / "events.db")

    delivery = Delivery(open_log, EventJournal(tmp_path / "waiting"))
    delivery.shown(shown("q1"))
    told = delivery.clicked(clicked("q1"))
    until(lambda: delivery.away_because)
    assert not told.done() and delivery.waiting_bytes > 0
    (tmp_path / "events.db").rmdir()
    assert told.result(timeout=20) == 1
    assert not delivery.away_because and delivery.waiting_bytes == 0
    delivery.close()


def test_what_waits_for_a_log_that_is_away_gets_to_the_disk(tmp_path: Path, synced: list[int]) -> None:
    (tmp_path / "events.db").mkdir()
    delivery = Delivery(lambda: SqliteEventLog(tmp_path / "events.db"), EventJournal(tmp_path / "waiting"))
    delivery.shown(shown("q1"))
    [file] = tmp_path.rglob("*.jsonl")
    until(lambda: synced)
    assert file.stat().st_ino in synced
    delivery.close()


def test_what_a_stopped_process_could_not_deliver_the_next_one_does(tmp_path: Path) -> None:
    (tmp_path / "events.db").mkdir()
    delivery = Delivery(lambda: SqliteEventLog(tmp_path / "events.db"), EventJournal(tmp_path / "waiting"))
    delivery.shown(shown("q1"))
    delivery.close()
    (tmp_path / "events.db").rmdir()
    Delivery(lambda: SqliteEventLog(tmp_path / "events.db"), EventJournal(tmp_path / "waiting")).close()
    assert SqliteEventLog(tmp_path / "events.db").searches()["query_id"].to_pylist() == ["q1"]
