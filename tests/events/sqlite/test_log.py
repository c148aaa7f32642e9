"""The SQLite event log: its file, other processes, and crashes."""

from __future__ import annotations

import dataclasses
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from immr.errors import EventLogError, EventRefusedError
from immr.events.sqlite.log import SqliteEventLog
from immr.types import Click, Impression, SearchRecord

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)

WRITER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from immr.events.sqlite.log import SqliteEventLog
from immr.types import Impression
path, name, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
log = SqliteEventLog(path)
now = datetime(2024, 5, 1, tzinfo=UTC)
for number in range(count):
    query = f"{name}-{number}"
    log.record_impressions([Impression(query, i, 1, "u", "champion", "m", now) for i in ("a", "b")])
    print(query, flush=True)
"""


def start_writer(path: Path, name: str, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), name, str(count)], stdout=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("acknowledged", [1, 25])
def test_acknowledged_writes_survive_sigkill(tmp_path: Path, acknowledged: int) -> None:
    path = tmp_path / "events.db"
    with start_writer(path, "q", 1_000_000) as writer:
        assert writer.stdout is not None
        seen = [writer.stdout.readline().strip() for _ in range(acknowledged)]
        writer.send_signal(signal.SIGKILL)
        seen += writer.stdout.read().split()
    assert writer.returncode == -signal.SIGKILL
    kept = SqliteEventLog(path).joined()["query_id"].to_pylist()
    assert set(seen) <= set(kept)
    assert all(kept.count(query) == 2 for query in kept), "batches are atomic"


def test_processes_that_start_together_share_one_file(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    writers = [start_writer(path, f"p{number}", 30) for number in range(3)]
    for writer in writers:
        out, _ = writer.communicate(timeout=60)
        assert (writer.returncode, len(out.split())) == (0, 30)
    assert SqliteEventLog(path).joined().num_rows == 3 * 30 * 2


def test_a_reopened_log_has_everything(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    log = SqliteEventLog(path, synchronous="NORMAL")
    log.record_impressions([Impression("q", "a", 1, "u", "champion", "m", NOON)])
    log.record_clicks([Click("id", "click", "q", "a", NOON)])
    log.close()
    again = SqliteEventLog(path)
    assert again.joined()["clicked"].to_pylist() == [True]
    assert again.record_clicks([Click("id", "click", "q", "a", NOON)]) == 0


def test_a_log_of_another_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    SqliteEventLog(path).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE schema_version SET version = 99")
    with pytest.raises(EventLogError, match="schema version 99"):
        SqliteEventLog(path)


def test_a_log_of_the_first_schema_is_upgraded(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    SqliteEventLog(path).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("ALTER TABLE searches DROP COLUMN context")
        connection.execute("ALTER TABLE clicks DROP COLUMN amount")
        connection.execute("UPDATE schema_version SET version = 1")
        row = ("q", "u", 1_000_000, "champion", "m", 5.0, 3, 0, 0)
        connection.execute("INSERT INTO searches VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    log = SqliteEventLog(path)
    log.record_search(SearchRecord("r", "u", NOON, "champion", "m", 5.0, 3, context='{"device":"tv"}'), [])
    assert log.searches()["context"].to_pylist() == ["", '{"device":"tv"}']
    log.record_clicks([Click("e", "order", "q", "a", NOON, 12.5)])
    log.close()
    assert SqliteEventLog(path).searches().num_rows == 2
    assert SqliteEventLog(path).clicks()["amount"].to_pylist() == [12.5]


def test_a_running_writer_goes_on_after_a_newer_release_has_added_columns(tmp_path: Path) -> None:
    log = SqliteEventLog(tmp_path / "events.db")
    with closing(sqlite3.connect(tmp_path / "events.db")) as connection, connection:
        for table in ("searches", "impressions", "clicks"):
            connection.execute(f"ALTER TABLE {table} ADD COLUMN later TEXT NOT NULL DEFAULT 'x'")
    shown = [Impression("q", "a", 1, "u", "champion", "m", NOON)]
    assert log.record_search(SearchRecord("q", "u", NOON, "champion", "m", 5.0, 3), shown) == 1
    assert log.record_clicks([Click("e", "order", "q", "a", NOON, 12.5)]) == 1
    assert log.joined()["ordered"].to_pylist() == [True]
    log.close()


def test_a_writer_whose_file_a_newer_release_changes_otherwise_may_try_again_later(tmp_path: Path) -> None:
    """Refused for good, its events would not wait for the newer gateway that can deliver them."""
    log = SqliteEventLog(tmp_path / "events.db")
    with closing(sqlite3.connect(tmp_path / "events.db")) as connection, connection:
        connection.execute("ALTER TABLE clicks RENAME COLUMN amount TO worth")
    with pytest.raises(EventLogError, match="no column named amount") as caught:
        log.record_clicks([Click("e", "order", "q", "a", NOON, 12.5)])
    assert not isinstance(caught.value, EventRefusedError)
    log.close()


def test_a_file_that_is_not_a_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    path.write_text("not a database at all, but long enough to be one\n" * 50)
    with pytest.raises(EventLogError, match=r"events\.db failed"):
        SqliteEventLog(path)


def test_a_large_log_is_read_in_batches(tmp_path: Path) -> None:
    log = SqliteEventLog(tmp_path / "events.db")
    log.record_impressions(
        [
            Impression(f"q{n // 10}", f"i{n % 10}", n % 10 + 1, "u", "champion", "m", NOON)
            for n in range(60_000)
        ]
    )
    table = log.joined()
    assert table.num_rows == 60_000
    assert table["ts"].num_chunks == 2


@pytest.mark.parametrize("change", [{"user_id": None}, {"position": 2**70}, {"item_id": "\ud800"}])
def test_an_event_that_can_never_be_stored_is_refused_for_good(
    tmp_path: Path, change: dict[str, object]
) -> None:
    log = SqliteEventLog(tmp_path / "events.db")
    impression = Impression("q", "a", 1, "u", "champion", "m", NOON)
    with pytest.raises(EventRefusedError):
        log.record_impressions([impression, dataclasses.replace(impression, **change)])  # type: ignore[arg-type]
    assert log.joined().num_rows == 0
    assert log.record_impressions([impression]) == 1
    log.close()
