"""The event log on a real PostgreSQL server: many writers, crashes of both sides, schemas, errors."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from immr.errors import EventLogError, EventRefusedError
from immr.events.delivery import Delivery
from immr.events.journal import EventJournal
from immr.events.journal_entries import Clicked, Shown
from immr.events.postgres.log import PostgresEventLog
from immr.settings import Settings
from immr.types import Click, Impression, SearchRecord
from immr.wiring import connect
from tests.support import patience, postgres_server
from tests.support.postgres_server import PostgresServer

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
WRITER = """
import sys
from datetime import UTC, datetime
from immr.events.postgres.log import PostgresEventLog
from immr.types import Click, Impression
log = PostgresEventLog(sys.argv[1])
for number in range(int(sys.argv[3])):
    query = f"{sys.argv[2]}-{number}"
    now = datetime.now(UTC)
    log.record_impressions([Impression(query, item, place, "user", "champion", "immr-1", now)
                            for place, item in enumerate("ab", start=1)])
    log.record_clicks([Click(query, "click", query, "a", now)])
    print(query, flush=True)
"""


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    return f"{postgres.url}?schema=log_{uuid.uuid4().hex}"


@pytest.fixture(scope="module")
def fragile() -> Iterator[PostgresServer]:
    """A server for this file alone, which its tests may kill."""
    with postgres_server.serving() as server:
        yield server


def impression(query: str, item: str = "a") -> Impression:
    return Impression(query, item, 1, "user", "champion", "immr-1", NOON)


def shown(query: str, items: tuple[tuple[str, int], ...] = (("a", 1), ("b", 2))) -> Shown:
    search = SearchRecord(query, "user", NOON, "champion", "immr-1", 10.0, 2, False, False)
    return Shown(search, items, ())


def clicked(query: str) -> Clicked:
    return Clicked((Click(f"{query}/a", "click", query, "a", NOON),), uuid.uuid4().hex, "champion", "immr-1")


def writer(url: str, name: str, queries: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, url, name, str(queries)], stdout=subprocess.PIPE, text=True
    )


def test_processes_that_start_together_write_to_one_log(url: str) -> None:
    writers = [writer(url, name, 20) for name in ("one", "two", "three")]
    for each in writers:
        each.communicate(timeout=120)
    assert [each.returncode for each in writers] == [0, 0, 0]
    joined = PostgresEventLog(url).joined()
    assert joined.num_rows == 3 * 20 * 2
    assert sum(joined["clicked"].to_pylist()) == 60


def test_what_was_recorded_survives_the_death_of_its_process(url: str) -> None:
    process = writer(url, "q", 100_000)
    assert process.stdout is not None
    acknowledged = [process.stdout.readline().strip() for _ in range(5)]
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert set(acknowledged) <= set(PostgresEventLog(url).joined()["query_id"].to_pylist())


def test_no_event_is_lost_or_doubled_when_the_server_crashes(fragile: PostgresServer, tmp_path: Path) -> None:
    url = f"{fragile.url}?schema=crash"
    delivery = Delivery(lambda: PostgresEventLog(url), EventJournal(tmp_path))
    delivery.shown(shown("before"))
    assert delivery.clicked(clicked("before")).result(60) == 1
    fragile.kill()
    for number in range(50):
        delivery.shown(shown(f"during-{number}"))
    late = delivery.clicked(clicked("during-7"))
    patience.until(lambda: delivery.away_because, context=lambda: str(delivery.waiting_bytes))
    assert "check that PostgreSQL is running" in delivery.away_because
    fragile.start()
    assert late.result(60) == 1
    delivery.close()
    log = PostgresEventLog(url)
    joined = log.joined()
    assert (log.searches().num_rows, joined.num_rows) == (51, 102)
    assert sum(joined["clicked"].to_pylist()) == 2


def test_a_reader_outlives_a_restart_of_the_server(fragile: PostgresServer) -> None:
    log = PostgresEventLog(f"{fragile.url}?schema=reader")
    log.record_impressions([impression("q")])
    fragile.kill()
    with pytest.raises(EventLogError, match="failed"):
        log.joined()
    fragile.start()
    assert log.joined().num_rows == 1
    log.close()


def test_gateways_that_deliver_the_same_clicks_count_them_once(url: str, tmp_path: Path) -> None:
    """Shoppers' phones repeat events, and may reach another gateway with them."""
    deliveries = [
        Delivery(lambda: PostgresEventLog(url), EventJournal(tmp_path / name)) for name in ("one", "two")
    ]
    queries = [f"q{number}" for number in range(40)]
    orders = (queries, queries[::-1])  # in opposite order, so that their transactions wait for each other
    new = [
        [delivery.clicked(clicked(query)) for query in order]
        for delivery, order in zip(deliveries, orders, strict=True)
    ]
    total = sum(future.result(60) for futures in new for future in futures)
    for delivery in deliveries:
        delivery.close()
    assert total == 40


def test_an_event_that_the_server_refuses_is_set_aside_and_the_others_arrive(
    url: str, tmp_path: Path
) -> None:
    delivery = Delivery(lambda: PostgresEventLog(url), EventJournal(tmp_path))
    for query in ("q1", "q\0", "q2"):  # PostgreSQL has no NUL in text
        delivery.shown(shown(query))
    delivery.close()
    assert delivery.refused == 1
    assert PostgresEventLog(url).searches()["query_id"].to_pylist() == ["q1", "q2"]


def test_a_failed_batch_leaves_nothing_behind(url: str) -> None:
    log = PostgresEventLog(url)
    with pytest.raises(EventRefusedError, match="refuses an event"), log.batch():
        log.record_impressions([impression("q1")])
        log.record_impressions([impression(None)])  # type: ignore[arg-type]
    assert log.joined().num_rows == 0
    assert log.record_impressions([impression("q1")]) == 1
    log.close()


def test_logs_in_two_schemas_are_separate(postgres: PostgresServer) -> None:
    one, two = (PostgresEventLog(f"{postgres.url}?schema=shop_{uuid.uuid4().hex}") for _ in range(2))
    one.record_impressions([impression("q")])
    assert (one.joined().num_rows, two.joined().num_rows) == (1, 0)
    one.close()


def test_readers_see_one_moment_and_do_not_wait_for_a_writer(url: str) -> None:
    log, reader = PostgresEventLog(url), PostgresEventLog(url)
    with log.batch():
        log.record_impressions([impression("q")])
        found: list[int] = []
        thread = threading.Thread(target=lambda: found.append(reader.joined().num_rows))
        thread.start()
        thread.join(60)
        assert found == [0]
    assert reader.joined().num_rows == 1
    log.close()


def test_a_log_of_a_newer_release_is_refused(url: str) -> None:
    from immr.events.postgres.url import PostgresUrl

    PostgresEventLog(url).joined()
    parsed = PostgresUrl.parse(url)
    with psycopg.connect("", **parsed.parameters) as connection:
        connection.execute("UPDATE schema_version SET version = 99")
    with pytest.raises(EventLogError, match="schema version 99"):
        PostgresEventLog(url).joined()


def test_an_account_that_may_not_create_tables_can_use_those_there(
    url: str, postgres: PostgresServer
) -> None:
    from immr.events.postgres.url import PostgresUrl

    with closing(PostgresEventLog(url)) as log:
        log.record_impressions([impression("q")])
    schema, role = PostgresUrl.parse(url).schema, f"analyst_{uuid.uuid4().hex}"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN")
        connection.execute(f"GRANT USAGE ON SCHEMA {schema} TO {role}")
        connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}")
    analyst = PostgresEventLog(url.replace("immr@", f"{role}@"))
    assert analyst.joined().num_rows == 1
    with pytest.raises(EventLogError, match="permission denied"):
        analyst.record_impressions([impression("q2")])
    analyst.close()


def test_a_wrong_password_is_not_quoted() -> None:
    log = PostgresEventLog("postgresql://immr:hunter2@127.0.0.1:9/immr")
    with pytest.raises(EventLogError, match="refused") as caught:
        log.joined()
    assert "hunter2" not in str(caught.value)


def test_the_url_selects_it(tmp_path: Path, url: str) -> None:
    with connect(Settings(home=tmp_path, events_url=url)) as parts:
        assert isinstance(parts.events, PostgresEventLog)
        assert parts.events.record_impressions([impression("q")]) == 1


def test_a_log_of_the_first_schema_is_upgraded_by_one_of_many(url: str) -> None:
    with closing(PostgresEventLog(url)) as log:
        log.record_clicks([Click("before", "order", "q", "a", NOON)])
    address, _, schema = url.partition("?schema=")
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(f"ALTER TABLE {schema}.clicks DROP COLUMN amount")
        connection.execute(f"UPDATE {schema}.schema_version SET version = 1")
    gateways = [PostgresEventLog(url) for _ in range(3)]
    orders = [Click(f"after-{number}", "order", "q", "a", NOON, 12.5) for number in range(3)]
    threads = [
        threading.Thread(target=gateway.record_clicks, args=([order],))
        for gateway, order in zip(gateways, orders, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert gateways[0].clicks()["amount"].to_pylist() == [12.5, 12.5, 12.5, None]
    with psycopg.connect(
        address, autocommit=True
    ) as connection:  # a gateway of the older release still writes
        connection.execute(
            f"INSERT INTO {schema}.clicks SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[],"
            " %s::timestamptz[])",
            [["old"], ["order"], ["q"], ["b"], [NOON]],
        )
    for gateway in gateways:
        gateway.close()
