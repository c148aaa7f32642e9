"""Kafka as the event log: other processes, repeats, order, brokers that are down."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from immr.errors import EventLogError, EventRefusedError
from immr.events.kafka.log import KafkaEventLog
from immr.events.kafka.url import KafkaUrl
from immr.events.query_ids import new_query_id, user_key
from immr.settings import Settings
from immr.types import Click, Impression, SearchRecord
from immr.wiring import connect
from tests.support.kafka_cluster import mock_cluster

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)

WRITER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from immr.events.kafka.log import KafkaEventLog
from immr.types import Impression
log = KafkaEventLog(sys.argv[1], Path(sys.argv[2]))
now = datetime(2024, 5, 1, tzinfo=UTC)
number = 0
while True:
    log.record_impressions([Impression(f"q{number}", i, 1, "u", "champion", "m", now) for i in "ab"])
    print(f"q{number}", flush=True)
    number += 1
"""


@pytest.fixture(scope="module")
def brokers() -> Iterator[str]:
    with mock_cluster() as addresses:
        yield addresses


@pytest.fixture
def url(brokers: str) -> str:
    return f"kafka://{brokers}/t{uuid.uuid4().hex}"


def shown(query: str, user: str, item: str = "a") -> Impression:
    return Impression(query, item, 1, user, "champion", "m", NOON)


def search(query: str, user: str) -> SearchRecord:
    return SearchRecord(query, user, NOON, "champion", "m", 1.0, 1)


def test_one_process_reads_what_another_recorded(url: str, tmp_path: Path) -> None:
    gateway = KafkaEventLog(url, tmp_path / "gateway.db")
    reader = KafkaEventLog(url, tmp_path / "reader.db")
    for number in range(20):
        gateway.record_search(search(f"q{number}", f"u{number % 3}"), [shown(f"q{number}", f"u{number % 3}")])
    gateway.record_clicks([Click("c", "click", "q3", "a", NOON)])
    assert reader.joined().num_rows == 20
    gateway.record_clicks([Click("d", "click", "q4", "a", NOON)])
    assert sum(reader.joined()["clicked"].to_pylist()) == 2
    assert not (tmp_path / "gateway.db").exists(), "a process that only writes needs no view"
    gateway.close()
    reader.close()


def test_a_message_that_arrives_twice_counts_once(url: str, tmp_path: Path) -> None:
    for name in ("one", "two"):  # each like a separate process
        log = KafkaEventLog(url, tmp_path / f"{name}.db")
        assert log.record_search(search("q", "u"), [shown("q", "u")]) == 1
        assert log.record_clicks([Click("c", "click", "q", "a", NOON)]) == 1
        log.close()
    reader = KafkaEventLog(url, tmp_path / "reader.db")
    assert (reader.joined().num_rows, reader.searches().num_rows) == (1, 1)
    reader.close()


def test_a_view_without_offsets_reads_everything_again(url: str, tmp_path: Path) -> None:
    log = KafkaEventLog(url, tmp_path / "view.db")
    log.record_search(search("q", "u"), [shown("q", "u")])
    assert log.joined().num_rows == 1
    (tmp_path / "view.places.json").unlink()
    assert log.joined().num_rows == 1
    log.close()


def test_a_users_events_share_a_partition_in_order_whichever_gateway_records_them(
    url: str, brokers: str, tmp_path: Path
) -> None:
    gateways = [KafkaEventLog(url, tmp_path / f"{name}.db") for name in ("one", "two")]
    user_of: dict[str, str] = {}
    wanted: dict[str, list[str]] = {}
    for number in range(30):
        user = f"u{number % 4}"
        query = new_query_id(user_key(user))
        user_of[query] = user
        wanted.setdefault(user, []).extend([query, f"{query}/a"])
        gateways[number % 2].record_search(search(query, user), [shown(query, user)])
        gateways[1 - number % 2].record_clicks([Click(f"{query}/a", "click", query, "a", NOON)])
    close(*gateways)
    found: dict[str, list[tuple[int, str]]] = {}
    for partition, _, body in messages(brokers, KafkaUrl.parse(url).topic):
        event = body.get("search") or body["click"]
        found.setdefault(user_of[event["query_id"]], []).append(
            (partition, event.get("event_id") or event["query_id"])
        )
    for user, events in found.items():
        assert [what for _, what in events] == wanted[user]
        assert len({partition for partition, _ in events}) == 1
    assert set(found) == set(wanted)


def test_a_query_without_a_user_keeps_its_own_order(url: str, brokers: str, tmp_path: Path) -> None:
    gateways = [KafkaEventLog(url, tmp_path / f"{name}.db") for name in ("one", "two")]
    queries = [new_query_id() for _ in range(8)]
    for query in queries:
        gateways[0].record_search(search(query, "u"), [shown(query, "u")])
        gateways[1].record_clicks([Click(f"{query}/a", "click", query, "a", NOON)])
    close(*gateways)
    partitions: dict[str, set[int]] = {}
    for partition, key, _ in messages(brokers, KafkaUrl.parse(url).topic):
        partitions.setdefault(key, set()).add(partition)
    assert set(partitions) == set(queries)
    assert all(len(those) == 1 for those in partitions.values())
    assert len(set.union(*partitions.values())) > 1, "the queries are spread over partitions"


def close(*logs: KafkaEventLog) -> None:
    for log in logs:
        log.close()


def test_a_repeat_within_a_batch_is_not_new(url: str, tmp_path: Path) -> None:
    log = KafkaEventLog(url, tmp_path / "view.db")
    click = Click("c", "click", "q", "a", NOON)
    with log.batch():
        assert log.record_search(search("q", "u"), [shown("q", "u")]) == 1
        assert log.record_search(search("q", "u"), [shown("q", "u")]) == 0
        assert (log.record_clicks([click]), log.record_clicks([click])) == (1, 0)
    assert log.record_clicks([click]) == 0
    assert log.joined().num_rows == 1
    log.close()


def test_events_of_a_failed_batch_count_as_new_afterwards(url: str, tmp_path: Path) -> None:
    log = KafkaEventLog(url, tmp_path / "view.db")
    with pytest.raises(ZeroDivisionError), log.batch():
        assert log.record_clicks([Click("c", "click", "q", "a", NOON)]) == 1
        _ = 1 / 0
    assert log.record_clicks([Click("c", "click", "q", "a", NOON)]) == 1
    log.close()


def test_many_searches_do_not_displace_a_click(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("immr.events.kafka.log._REMEMBERED", 20)
    log = KafkaEventLog(url, tmp_path / "view.db")
    assert log.record_clicks([Click("c", "click", "q0", "a", NOON)]) == 1
    with log.batch():
        for number in range(50):
            log.record_search(search(f"q{number}", "u"), [shown(f"q{number}", "u")])
    assert log.record_clicks([Click("c", "click", "q0", "a", NOON)]) == 0
    assert log.record_search(search("q0", "u"), []) == 0
    assert log.record_search(search("q0", "u"), [shown("q0", "u")]) == 1, "the memory of ids is limited"
    log.close()


def test_a_batch_may_exceed_the_producers_queue(url: str, tmp_path: Path) -> None:
    log = KafkaEventLog(f"{url}?queue.buffering.max.messages=10", tmp_path / "view.db")
    with log.batch():
        assert log.record_clicks([Click(f"c{n}", "click", "q", f"i{n}", NOON) for n in range(500)]) == 500
        log.record_impressions([shown("q", "u", f"i{n}") for n in range(500)])
    assert log.joined()["clicked"].to_pylist() == [True] * 500
    log.close()


def test_a_full_queue_raises_within_the_timeout_if_the_brokers_are_down(tmp_path: Path) -> None:
    log = KafkaEventLog(
        "kafka://127.0.0.1:9/events?queue.buffering.max.messages=10", tmp_path / "view.db", timeout_s=1.0
    )
    with pytest.raises(EventLogError, match="did not accept"):
        log.record_clicks([Click(f"c{n}", "click", "q", "a", NOON) for n in range(500)])
    log.close()


@pytest.mark.parametrize("place", [7, -3])
def test_an_offset_outside_the_topic_restarts_at_its_first_message(
    url: str, tmp_path: Path, place: int
) -> None:
    """This happens after the topic was recreated or has dropped old messages."""
    log = KafkaEventLog(url, tmp_path / "view.db")
    (tmp_path / "view.places.json").write_text(json.dumps({str(number): place for number in range(4)}))
    log.record_search(search("q", "u"), [shown("q", "u")])
    assert log.joined().num_rows == 1
    log.close()


def messages(brokers: str, topic: str) -> list[tuple[int, str, dict[str, dict[str, str]]]]:
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": "test", "log_level": 2})
    found = []
    for partition in consumer.list_topics(topic, timeout=30).topics[topic].partitions:
        _, end = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=30)
        consumer.assign([TopicPartition(topic, partition, 0)])
        for message in consumer.consume(end, timeout=30) if end else []:
            found.append((partition, message.key().decode(), json.loads(message.value())))
    consumer.close()
    return found


def test_acknowledged_events_survive_sigkill_of_the_writer(url: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, url, str(tmp_path / "writer.db")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        acknowledged = [writer.stdout.readline().strip() for _ in range(10)]
        writer.send_signal(signal.SIGKILL)
        acknowledged += writer.stdout.read().split()
    reader = KafkaEventLog(url, tmp_path / "reader.db")
    kept = reader.joined()["query_id"].to_pylist()
    assert set(acknowledged) <= set(kept)
    assert all(kept.count(query) == 2 for query in kept), "messages are atomic"
    reader.close()


def test_brokers_that_are_down_raise_within_the_timeout(tmp_path: Path) -> None:
    log = KafkaEventLog("kafka://127.0.0.1:9/events", tmp_path / "view.db", timeout_s=1.0)
    with pytest.raises(EventLogError, match=r"did not accept 1 of 1 messages.*127\.0\.0\.1:9"):
        log.record_impressions([shown("q", "u")])
    with pytest.raises(EventLogError, match="check that the brokers are running"):
        log.joined()
    log.close()


def test_a_message_that_is_too_large_is_refused_for_good(url: str, tmp_path: Path) -> None:
    log = KafkaEventLog(f"{url}?message.max.bytes=1000", tmp_path / "view.db")
    with pytest.raises(EventRefusedError, match="did not accept 1 of 1"):
        log.record_impressions([shown("q", "u" * 2000)])
    assert log.record_impressions([shown("q", "u")]) == 1
    log.close()


def test_unknown_librdkafka_settings_are_an_error_without_passwords(tmp_path: Path) -> None:
    with pytest.raises(EventLogError, match=r"no\.such\.setting") as caught:
        KafkaEventLog("kafka://127.0.0.1:9/t?sasl.password=hunter2&no.such.setting=1", tmp_path / "view.db")
    assert "hunter2" not in str(caught.value)


def test_a_kafka_url_in_the_settings_selects_it(url: str, tmp_path: Path) -> None:
    log = connect(Settings(home=tmp_path, events_url=url)).events
    later = NOON + timedelta(minutes=1)
    log.record_search(search("q", "u"), [shown("q", "u")])
    assert log.joined(later).num_rows == 0
    assert log.joined(NOON)["user_id"].to_pylist() == ["u"]
    log.close()
