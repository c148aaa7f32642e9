"""The same cases on every event log: SQLite, a PostgreSQL server, and Kafka on librdkafka's in-memory cluster."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pyarrow as pa
import pytest

from immr.errors import EventLogError, EventRefusedError
from immr.events import sql
from immr.events.event_log import CLICKED_SCHEMA, JOINED_SCHEMA, SCHEMAS, SEARCHES_SCHEMA, EventLog
from immr.events.kafka.log import KafkaEventLog
from immr.events.postgres.log import PostgresEventLog
from immr.events.sqlite.log import SqliteEventLog
from immr.types import Click, EventType, Impression, SearchRecord
from tests.support.kafka_cluster import mock_cluster

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
WINDOW = timedelta(hours=24)


@pytest.fixture(params=["kafka", "postgres", "sqlite"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EventLog]:
    if request.param == "sqlite":
        log: EventLog = SqliteEventLog(tmp_path / "deep" / "events.db", join_window=WINDOW)
    elif request.param == "postgres":
        url = request.getfixturevalue("postgres").url
        log = PostgresEventLog(f"{url}?schema=log_{uuid.uuid4().hex}", join_window=WINDOW)
    else:
        brokers = request.getfixturevalue("brokers")
        url = f"kafka://{brokers}/{uuid.uuid4().hex}"
        log = KafkaEventLog(url, tmp_path / "deep" / "view.db", join_window=WINDOW)
    yield log
    log.close()


@pytest.fixture(scope="module")
def brokers() -> Iterator[str]:
    with mock_cluster() as addresses:
        yield addresses


def impression(query: str, item: str, position: int = 1, variant: str = "champion", **more) -> Impression:
    values = {"user_id": f"user-of-{query}", "model_version": f"{variant}-model", "ts": NOON} | more
    return Impression(query_id=query, item_id=item, position=position, variant=variant, **values)


def click(query: str, item: str, kind: EventType = "click", after: timedelta = timedelta(seconds=5)) -> Click:
    return Click(f"{query}/{item}/{kind}", kind, query, item, NOON + after)


def search(query: str, variant: str = "champion", took_ms: float = 10.0, results: int = 1, **more):
    values = {"user_id": f"user-of-{query}", "model_version": f"{variant}-model", "ts": NOON} | more
    return SearchRecord(query_id=query, variant=variant, took_ms=took_ms, results=results, **values)


def test_an_empty_log_returns_empty_tables_and_sums(log: EventLog) -> None:
    assert log.joined().schema == JOINED_SCHEMA
    assert log.searches().schema == SEARCHES_SCHEMA
    assert (log.joined().num_rows, log.searches().num_rows) == (0, 0)
    assert (log.ctr_over_time(60), log.funnel(), log.latency()) == ([], [], [])


def test_batches_are_the_tables_in_parts(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "_ROWS_PER_BATCH", 2)
    for number in range(5):
        at = NOON + timedelta(minutes=number)
        log.record_search(search(f"q{number}", ts=at), [impression(f"q{number}", "a", ts=at)])
        log.record_clicks([click(f"q{number}", "a")])
    since = NOON + timedelta(minutes=1)
    tables = {
        "impressions": log.joined,
        "searches": log.searches,
        "clicks": log.clicks,
        "queries": log.by_query,
    }
    for name, whole in tables.items():
        batches = list(log.batches(name, since))
        assert [batch.num_rows for batch in batches] == [2, 2] if name != "clicks" else [2, 2, 1]
        assert pa.Table.from_batches(batches, schema=SCHEMAS[name]).equals(whole(since))
    first = log.batches("impressions")
    assert next(first).num_rows == 2
    first.close()
    assert log.record_impressions([impression("later", "a")]) == 1


def test_recording_nothing_is_allowed(log: EventLog) -> None:
    assert log.record_impressions([]) == 0
    assert log.record_clicks([]) == 0


def test_joined_has_the_columns_and_values_of_the_contract(log: EventLog) -> None:
    log.record_impressions([impression("q", "a"), impression("q", "b", 2)])
    log.record_clicks([click("q", "b")])
    table = log.joined()
    assert table.schema == JOINED_SCHEMA
    assert table.to_pylist() == [
        {
            "query_id": "q",
            "user_id": "user-of-q",
            "item_id": item,
            "position": position,
            "clicked": clicked,
            "ordered": False,
            "amount": None,
            "variant": "champion",
            "model_version": "champion-model",
            "ts": NOON,
        }
        for item, position, clicked in (("a", 1, False), ("b", 2, True))
    ]


def test_repeats_are_counted_once(log: EventLog) -> None:
    twice = [impression("q", "a"), impression("q", "a")]
    assert log.record_impressions(twice) == 1
    assert log.record_impressions([*twice, impression("q", "b", 2)]) == 1
    assert log.record_clicks([click("q", "a"), click("q", "a")]) == 1
    assert log.record_clicks([click("q", "a")]) == 0
    assert log.record_search(search("q"), [impression("q", "a")]) == 0
    assert log.record_search(search("q"), []) == 0
    assert log.joined().num_rows == 2
    assert log.searches().num_rows == 1


def test_a_click_may_arrive_before_its_impression(log: EventLog) -> None:
    assert log.record_clicks([click("q", "a")]) == 1
    assert log.joined().num_rows == 0
    log.record_impressions([impression("q", "a")])
    assert log.joined()["clicked"].to_pylist() == [True]


def test_an_order_implies_a_click_but_not_the_reverse(log: EventLog) -> None:
    log.record_impressions([impression("q", "a"), impression("q", "b", 2)])
    log.record_clicks([click("q", "a"), click("q", "b", "order")])
    rows = log.joined().to_pylist()
    assert [(row["clicked"], row["ordered"]) for row in rows] == [(True, False), (True, True)]


def test_two_clicks_on_one_impression_count_once(log: EventLog) -> None:
    log.record_impressions([impression("q", "a")])
    log.record_clicks([click("q", "a"), Click("another", "click", "q", "a", NOON)])
    assert log.joined()["clicked"].to_pylist() == [True]
    assert log.ctr_over_time(60)[0].clicks == 1


def test_an_order_can_have_an_amount(log: EventLog) -> None:
    log.record_impressions([impression("q", item, place) for place, item in enumerate("abcd", start=1)])
    orders = [click("q", item, "order") for item in "abc"]
    late = click("q", "d", "order", after=2 * WINDOW)
    amounts = (12.5, 0.0, None, 99.0)
    priced = [replace(each, amount=amount) for each, amount in zip([*orders, late], amounts, strict=True)]
    log.record_clicks(priced)
    again = replace(priced[0], amount=7.0)  # a repeat with another amount changes nothing
    second = replace(priced[1], event_id="second", amount=5.0, ts=priced[1].ts + timedelta(seconds=1))
    log.record_clicks([again, second])
    assert log.joined()["amount"].to_pylist() == [12.5, 0.0, None, None]
    [row] = log.by_query().to_pylist()
    assert (row["orders"], row["revenue"], row["priced_orders"]) == (3, 12.5, 2)
    assert log.clicks()["amount"].to_pylist() == [12.5, 0.0, None, 5.0, 99.0]


@pytest.mark.parametrize(
    ("after", "counts"),
    [(-timedelta(seconds=3), True), (WINDOW, True), (WINDOW + timedelta(microseconds=1), False)],
)
def test_join_window(log: EventLog, after: timedelta, counts: bool) -> None:
    log.record_impressions([impression("q", "a")])
    log.record_clicks([click("q", "a", after=after), click("q", "a", "order", after)])
    row = log.joined().to_pylist()[0]
    assert (row["clicked"], row["ordered"]) == (counts, counts)


def test_since_is_inclusive(log: EventLog) -> None:
    for minute in range(3):
        when = NOON + timedelta(minutes=minute)
        log.record_search(search(f"q{minute}", ts=when), [impression(f"q{minute}", "a", ts=when)])
    since = NOON + timedelta(minutes=1)
    assert log.joined(since)["query_id"].to_pylist() == ["q1", "q2"]
    assert log.searches(since)["query_id"].to_pylist() == ["q1", "q2"]
    assert log.funnel(since)[0].queries == 2
    assert log.latency(since)[0].searches == 2
    assert len(log.ctr_over_time(60, since)) == 2


def test_times_of_other_zones_are_converted(log: EventLog) -> None:
    elsewhere = NOON.astimezone(timezone(timedelta(hours=-7)))
    log.record_impressions([impression("q", "a", ts=elsewhere)])
    assert log.joined(elsewhere)["ts"].to_pylist() == [NOON]


def test_a_time_without_a_zone_is_refused_for_good(log: EventLog) -> None:
    with pytest.raises(EventRefusedError, match="no time zone"):
        log.record_impressions([impression("q", "a", ts=NOON.replace(tzinfo=None))])
    assert log.joined().num_rows == 0


def test_a_search_with_an_invalid_impression_is_refused_entirely(log: EventLog) -> None:
    broken = impression("q", "b", 2, user_id=None)
    with pytest.raises(EventRefusedError):
        log.record_search(search("q"), [impression("q", "a"), broken])
    assert (log.joined().num_rows, log.searches().num_rows) == (0, 0)
    assert log.record_search(search("q"), [impression("q", "a")]) == 1


def test_a_batch_is_recorded_when_it_ends(log: EventLog) -> None:
    with log.batch():
        log.record_search(search("q1"), [impression("q1", "a")])
        assert log.record_clicks([click("q1", "a")]) == 1
        assert log.record_clicks([click("q1", "a")]) == 0
        assert log.record_impressions([impression("q1", "b", 2)]) == 1
        assert log.record_impressions([impression("q1", "b", 2), impression("q1", "c", 3)]) == 1
    assert [row["clicked"] for row in log.joined().to_pylist()] == [True, False, False]
    log.record_search(search("q2"), [])
    assert log.searches().num_rows == 2


def test_many_events_are_recorded_together(log: EventLog) -> None:
    shown = [(search(f"q{number}"), [impression(f"q{number}", "a")]) for number in (3, 1, 2)]
    groups = [[click("q1", "a"), click("q2", "a")], [click("q2", "a")], []]
    assert log.record_all(shown, groups) == [2, 0, 0]
    assert log.record_all(shown, [[click("q1", "a")], [click("q3", "a")]]) == [0, 1]
    assert log.record_all([], []) == []
    assert sorted(log.searches()["query_id"].to_pylist()) == ["q1", "q2", "q3"]
    assert log.joined()["clicked"].to_pylist() == [True] * 3


def test_searches_are_returned_as_recorded(log: EventLog) -> None:
    context = '{"country":"SE"}'
    log.record_search(search("q", "challenger", 12.5, 0, degraded=True, fallback=True, context=context), [])
    assert log.searches().to_pylist() == [
        {
            "query_id": "q",
            "user_id": "user-of-q",
            "ts": NOON,
            "variant": "challenger",
            "model_version": "challenger-model",
            "took_ms": 12.5,
            "results": 0,
            "degraded": True,
            "fallback": True,
            "context": context,
        }
    ]


def test_ctr_over_time_is_by_bucket_variant_and_version(log: EventLog) -> None:
    late = NOON + timedelta(seconds=90)
    log.record_impressions(
        [
            impression("q1", "a"),
            impression("q1", "b", 2),
            impression("q2", "a", variant="challenger"),
            impression("q3", "a", ts=late),
            impression("q4", "a", ts=late, model_version="newer"),
        ]
    )
    log.record_clicks([click("q1", "a"), click("q3", "a", after=timedelta(minutes=2))])
    found = [
        (
            bucket.start,
            bucket.variant,
            bucket.model_version,
            bucket.impressions,
            bucket.clicks,
        )
        for bucket in log.ctr_over_time(bucket_s=60)
    ]
    minute = NOON + timedelta(minutes=1)
    assert log.period() == (NOON, late)
    assert log.period({"champion"}) == (NOON, NOON)
    assert log.period({"champion", "challenger"}) is None
    assert found == [
        (NOON, "challenger", "challenger-model", 1, 0),
        (NOON, "champion", "champion-model", 2, 1),
        (minute, "champion", "champion-model", 1, 1),
        (minute, "champion", "newer", 1, 0),
    ]


def test_ctr_over_time_sums_squares_by_user(log: EventLog) -> None:
    items = "abcdefg"
    for query, user, shown in (("q1", "ann", 4), ("q2", "ann", 3), ("q3", "bob", 2)):
        log.record_impressions(
            [replace(impression(query, items[place], place + 1), user_id=user) for place in range(shown)]
        )
    log.record_clicks([click("q1", "a"), click("q1", "b"), click("q2", "a"), click("q3", "b")])
    [bucket] = log.ctr_over_time(60)
    assert (bucket.impressions, bucket.clicks) == (9, 4)
    assert (bucket.impressions_squares, bucket.clicks_squares, bucket.products) == (
        7**2 + 2**2,
        3**2 + 1,
        7 * 3 + 2,
    )


def test_sums_by_query(log: EventLog) -> None:
    shown = [impression("q1", item, place) for place, item in enumerate("abcdefghijkl", start=1)]
    log.record_impressions([*shown, impression("q2", "a", 1)])
    log.record_clicks([click("q1", "a"), click("q1", "a"), click("q1", "l", "order"), click("q2", "z")])
    one, two = sorted(log.by_query().to_pylist(), key=lambda row: row["query_id"])
    assert (one["impressions"], one["clicks"], one["orders"]) == (12, 2, 1)
    assert (one["first_impressions"], one["first_clicks"], one["clicked_positions"]) == (1, 1, 1 + 10)
    assert (two["impressions"], two["clicks"], two["clicked_positions"]) == (1, 0, 0)
    assert (two["revenue"], two["priced_orders"]) == (0.0, 0)
    assert (one["user_id"], one["variant"], one["model_version"], one["ts"]) == (
        "user-of-q1",
        "champion",
        "champion-model",
        NOON,
    )
    assert log.by_query(since=NOON + timedelta(days=1)).num_rows == 0


def test_recent_clicks_are_bounded_and_newest_first(log: EventLog) -> None:
    def later(minutes: int) -> datetime:
        return NOON + timedelta(minutes=minutes)

    for minutes in range(4):
        shown = [impression(f"q{minutes}", item, user_id="ann", ts=later(minutes)) for item in ("a", "b")]
        log.record_impressions(shown)
        log.record_clicks([click(f"q{minutes}", "a"), click(f"q{minutes}", "a", "order")])
    log.record_impressions(
        [impression("q9", "a", user_id="anonymous-q9"), impression("q8", "a", user_id="bot")]
    )
    log.record_impressions([impression("q7", "c", position, user_id="ben") for position in (1, 2)])
    log.record_clicks([click("q9", "a"), click("q8", "a"), click("q7", "c")])
    found = log.recent_clicks(per_user=3, most=100, without_users=["bot"])
    assert found.schema == CLICKED_SCHEMA
    assert found["query_id"].to_pylist() == ["q3", "q2", "q1", "q7"]
    newest = {"user_id": "ann", "query_id": "q3", "item_id": "a", "ts": later(3)}
    assert log.recent_clicks(per_user=3, most=1).to_pylist() == [newest]
    assert log.recent_clicks(per_user=3, most=100, since=later(3)).to_pylist() == [newest]
    assert log.recent_clicks(per_user=3, most=100, since=later(4)).num_rows == 0


def test_sums_by_position_and_item_can_exclude_users(log: EventLog) -> None:
    log.record_impressions([impression("q1", "a", 1), impression("q1", "b", 2)])
    log.record_clicks([click("q1", "b")])
    found = [(each.of, each.impressions, each.clicks) for each in log.summed_by("position")]
    assert found == [(1, 1, 0), (2, 1, 1)]
    assert [each.of for each in log.summed_by("item_id")] == ["a", "b"]
    assert log.summed_by("position", without_users=["user-of-q1"]) == []
    assert log.summed_by("position", since=NOON + timedelta(days=1)) == []
    assert log.summed_by("position", until=NOON - timedelta(days=1)) == []
    assert log.summed_by("position", until=NOON + timedelta(days=1)) == log.summed_by("position")


def test_the_funnel_counts_each_stage(log: EventLog) -> None:
    log.record_search(search("q1", results=2), [impression("q1", "a"), impression("q1", "b", 2)])
    log.record_search(search("q2", results=0, degraded=True), [])
    log.record_search(
        search("q3", "challenger", fallback=True), [impression("q3", "a", variant="challenger")]
    )
    log.record_clicks([click("q1", "a"), click("q1", "b", "order"), click("unknown", "a")])
    challenger, champion = log.funnel()
    assert (champion.variant, champion.queries, champion.zero_result_queries) == ("champion", 2, 1)
    assert (champion.degraded_queries, champion.fallback_queries) == (1, 0)
    assert (champion.impressions, champion.clicks, champion.orders) == (2, 2, 1)
    assert (challenger.queries, challenger.impressions, challenger.clicks) == (1, 1, 0)
    assert challenger.fallback_queries == 1


def test_the_funnel_includes_a_variant_with_impressions_only(log: EventLog) -> None:
    log.record_impressions([impression("q", "a")])
    assert (log.funnel()[0].queries, log.funnel()[0].impressions) == (0, 1)


def test_latency_percentiles_are_by_nearest_rank(log: EventLog) -> None:
    for place in range(1, 201):
        log.record_search(search(f"q{place}", took_ms=float(place)), [])
    log.record_search(search("one", "challenger", took_ms=7.0), [])
    challenger, champion = log.latency()
    assert (champion.searches, champion.p50_ms, champion.p99_ms) == (200, 100.0, 198.0)
    assert (challenger.searches, challenger.p50_ms, challenger.p99_ms) == (1, 7.0, 7.0)


def test_a_bucket_below_a_second_is_refused(log: EventLog) -> None:
    with pytest.raises(EventLogError, match="at least one second"):
        log.ctr_over_time(0)


def test_threads_can_share_a_log(log: EventLog) -> None:
    def work(thread: int) -> None:
        for number in range(10):
            query = f"q{thread}-{number}"
            log.record_search(search(query), [impression(query, "a")])
            log.record_clicks([click(query, "a")])
            log.joined()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log.joined().num_rows == 40
    assert log.joined()["clicked"].to_pylist() == [True] * 40


def test_closing_twice_is_allowed_and_writing_afterwards_is_an_error(log: EventLog) -> None:
    log.close()
    log.close()
    with pytest.raises(EventLogError):
        log.record_impressions([impression("q", "a")])
