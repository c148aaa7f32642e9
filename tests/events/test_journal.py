"""Events that wait on disk keep their order, survive crashes and stay within a limit."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import pytest

from immr.errors import EventLogError
from immr.events.journal import MAX_WAITING_BYTES, EventJournal
from immr.events.journal_entries import Clicked, Shown
from immr.types import Click, SearchRecord

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


class Opener(Protocol):
    def __call__(self, folder: Path, max_bytes: int = ...) -> EventJournal: ...


@pytest.fixture
def opened() -> Iterator[Opener]:
    """Opens journals and closes them after the test."""
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


def test_entries_are_returned_in_order(tmp_path: Path, opened: Opener) -> None:
    journal = opened(tmp_path)
    entries = [shown("q1"), clicked("q1"), shown("q2")]
    for entry in entries:
        journal.append(entry)
    assert journal.next(2).entries == entries[:2]
    batch = journal.next(9)
    assert batch.entries == entries
    journal.delivered(batch)
    assert journal.next(9).entries == [] and journal.waiting_bytes == 0


def test_undelivered_entries_survive_a_restart(tmp_path: Path) -> None:
    journal = EventJournal(tmp_path)
    for number in range(5):
        journal.append(shown(f"q{number}"))
    journal.close()
    again = EventJournal(tmp_path)
    again.append(shown("q5"))
    assert drain(again) == [f"q{number}" for number in range(6)]
    again.close()
    assert list(tmp_path.rglob("*.jsonl")) == []


def test_large_journals_have_several_files_deleted_as_they_are_delivered(
    tmp_path: Path, opened: Opener
) -> None:
    journal = opened(tmp_path)
    long = "u" * 100_000
    for number in range(60):
        journal.append(shown(f"q{number}", long))
    assert len(list(tmp_path.rglob("*.jsonl"))) == 2
    assert drain(journal, limit=7) == [f"q{number}" for number in range(60)]
    assert len(list(tmp_path.rglob("*.jsonl"))) == 1


def test_the_limit_of_waiting_bytes_is_enforced(tmp_path: Path, opened: Opener) -> None:
    journal = opened(tmp_path, max_bytes=600)
    taken = 0
    with pytest.raises(EventLogError, match="which is the limit"):
        for taken in range(10):
            journal.append(shown(f"q{taken}"))
    assert drain(journal) == [f"q{number}" for number in range(taken)]


def test_two_journals_use_separate_folders(tmp_path: Path, opened: Opener) -> None:
    first, second = opened(tmp_path), opened(tmp_path)
    first.append(shown("q1"))
    second.append(shown("q2"))
    assert (drain(first), drain(second)) == (["q1"], ["q2"])


def test_a_broken_line_does_not_block_the_others(tmp_path: Path, opened: Opener) -> None:
    journal = opened(tmp_path)
    journal.append(shown("q1"))
    [file] = tmp_path.rglob("*.jsonl")
    with file.open("ab") as behind:
        behind.write(b"{no json\n")
    journal.append(shown("q2"))
    assert drain(journal) == ["q1", "q2"]


def test_fields_of_newer_releases_are_ignored(tmp_path: Path, opened: Opener) -> None:
    journal = opened(tmp_path)
    journal.append(shown("q1"))
    journal.append(clicked("q1"))
    [file] = tmp_path.rglob("*.jsonl")
    search, clicks = map(json.loads, file.read_text().splitlines())
    search["search"]["new"] = search["new"] = clicks["new"] = clicks["clicks"][0]["new"] = 1
    file.write_text(f"{json.dumps(search)}\n{json.dumps(clicks)}\n")
    assert journal.next(9).entries == [shown("q1"), clicked("q1")]


def test_long_lines_make_small_batches(tmp_path: Path, opened: Opener) -> None:
    journal = opened(tmp_path)
    for number in range(60):
        journal.append(shown(f"q{number}", LONG))
    assert 5 < len(journal.next(500).entries) < 15
    assert drain(journal, limit=500) == [f"q{number}" for number in range(60)]


def test_text_that_is_not_unicode_is_refused_on_append(tmp_path: Path, opened: Opener) -> None:
    journal = opened(tmp_path)
    with pytest.raises(EventLogError, match="not valid Unicode"):
        journal.append(shown("q", "\ud800"))
    assert drain(journal) == []


LONG = "u" * 100_000  # 60 lines with it exceed one file


def test_appending_does_not_wait_for_a_sync(
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
    blocked = appending.is_alive()
    ready.set()
    syncing.join()
    assert not blocked and len(drain(journal)) == 61


def test_a_sync_covers_every_file_with_new_lines(tmp_path: Path, opened: Opener, synced: list[int]) -> None:
    journal = opened(tmp_path)
    for number in range(60):
        journal.append(shown(f"q{number}", LONG))
    files = sorted(tmp_path.rglob("*.jsonl"))
    names = [path.stat().st_ino for path in (*files, files[0].parent)]
    assert len(files) == 2 and synced == []
    journal.sync()
    assert synced == names
    journal.sync()
    assert synced == names + names[1:], "a completed file is synced once"


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The inodes of synced files and folders."""
    found, fsync = [], os.fsync

    def noted(descriptor: int) -> None:
        fsync(descriptor)
        found.append(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", noted)
    return found


def test_appending_recovers_after_a_disk_error(tmp_path: Path, opened: Opener) -> None:
    journal = opened(tmp_path / "waiting")
    (tmp_path / "waiting").rename(tmp_path / "away")
    taken = 0
    with pytest.raises(EventLogError, match="cannot be written"):
        for taken in range(60):
            journal.append(shown(f"q{taken}", LONG))
    (tmp_path / "away").rename(tmp_path / "waiting")
    journal.append(shown("last"))
    assert drain(journal) == [*(f"q{number}" for number in range(taken)), "last"]


class Interrupted(io.FileIO):
    """A file of the journal that changes between two reads of it."""

    def __init__(self, path: Path, meanwhile: Callable[[], None]) -> None:
        super().__init__(path)
        self.meanwhile: Callable[[], None] | None = meanwhile

    def readinto(self, buffer: Any) -> int:
        count = super().readinto(buffer) or 0
        if count and self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            meanwhile()
        return count


def test_a_click_on_a_full_disk_is_not_mixed_with_the_fragment_of_another_event(
    tmp_path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fragment that was cut off again, and a click that took its place, were read as one broken line."""
    journal = opened(tmp_path)
    journal.append(shown("q1"))
    (path,) = (tmp_path / "0").glob("*.jsonl")
    before = path.stat().st_size

    def another_event_takes_its_place() -> None:
        os.truncate(path, before)
        journal.append(clicked("q1"))

    def fragment_is_written(self: Path, mode: str) -> io.BufferedReader:
        os.write(journal._writing, b'{"search":{"query_id":"q2"')
        return io.BufferedReader(Interrupted(self, another_event_takes_its_place))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", fragment_is_written)
        batch = journal.next(10)
    assert (batch.entries, batch.broken) == ([shown("q1")], [])
    journal.delivered(batch)
    assert journal.next(10).entries == [clicked("q1")]


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


def test_appended_entries_survive_sigkill(tmp_path: Path, opened: Opener) -> None:
    left = opened(tmp_path)  # occupies the folder that the journal opened below would otherwise get
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        seen = [writer.stdout.readline().strip() for _ in range(50)]
        writer.send_signal(signal.SIGKILL)
        seen += writer.stdout.read().split()
    left.close()
    assert drain(opened(tmp_path), limit=100)[: len(seen)] == seen


def test_a_journal_that_cannot_be_opened_releases_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(folder: Path, own: Path) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr("immr.events.journal._take_over", full_disk)
        with pytest.raises(EventLogError, match="disk full"):
            EventJournal(tmp_path)
    EventJournal(tmp_path).close()
    assert [path.name for path in tmp_path.glob("*/")] == ["0"]


def test_files_that_are_not_numbered_are_ignored(tmp_path: Path, opened: Opener) -> None:
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "notes.jsonl").write_text("mine\n")
    journal = opened(tmp_path)
    journal.append(shown("q1"))
    assert drain(journal) == ["q1"]
