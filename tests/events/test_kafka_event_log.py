"""What is special to Kafka as the event log: other processes, repeats, order by user, absent brokers."""

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
from confluent_kafka import Consumer, Producer, TopicPartition

from immr import wiring
from immr.errors import EventLogError, SettingsError
from immr.events.kafka import KafkaEventLog, KafkaUrl
from immr.settings import Settings
from immr.types import Click, Impression, SearchRecord
from tests.kafka_cluster import mock_cluster

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)

WRITER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from immr.events.kafka import KafkaEventLog
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


def test_what_one_process_records_another_reads(url: str, tmp_path: Path) -> None:
    gateway = KafkaEventLog(url, tmp_path / "gateway.db")
    reader = KafkaEventLog(url, tmp_path / "reader.db")
    for number in range(20):
        gateway.record_search(search(f"q{number}", f"u{number % 3}"), [shown(f"q{number}", f"u{number % 3}")])
    gateway.record_clicks([Click("c", "click", "q3", "a", NOON)])
    assert reader.joined().num_rows == 20
    gateway.record_clicks([Click("d", "click", "q4", "a", NOON)])
    assert sum(reader.joined()["clicked"].to_pylist()) == 2
    assert not (tmp_path / "gateway.db").exists(), "who only writes needs no view"
    gateway.close()
    reader.close()


def test_a_message_that_came_twice_counts_once(url: str, tmp_path: Path) -> None:
    for name in ("one", "two"):  # two processes know nothing of each other
        log = KafkaEventLog(url, tmp_path / f"{name}.db")
        assert log.record_search(search("q", "u"), [shown("q", "u")]) == 1
        assert log.record_clicks([Click("c", "click", "q", "a", NOON)]) == 1
        log.close()
    reader = KafkaEventLog(url, tmp_path / "reader.db")
    assert (reader.joined().num_rows, reader.searches().num_rows) == (1, 1)
    reader.close()


def test_a_view_that_lost_its_place_reads_all_again_without_harm(url: str, tmp_path: Path) -> None:
    log = KafkaEventLog(url, tmp_path / "view.db")
    log.record_search(search("q", "u"), [shown("q", "u")])
    assert log.joined().num_rows == 1
    (tmp_path / "view.places.json").unlink()
    assert log.joined().num_rows == 1
    log.close()


def test_each_users_events_are_in_one_partition_in_order(url: str, brokers: str, tmp_path: Path) -> None:
    log = KafkaEventLog(url, tmp_path / "view.db")
    for number in range(30):
        user = f"u{number % 4}"
        log.record_search(search(f"q{number}", user), [shown(f"q{number}", user)])
        log.record_clicks([Click(f"c{number}", "click", f"q{number}", "a", NOON)])
    log.close()
    by_user: dict[str, list[tuple[int, str]]] = {}
    for partition, key, body in messages(brokers, KafkaUrl.parse(url).topic):
        what = body["search"]["query_id"] if "search" in body else body["click"]["event_id"]
        by_user.setdefault(key, []).append((partition, what))
    assert set(by_user) == {"u0", "u1", "u2", "u3"}
    for name, found in by_user.items():
        numbers = range(int(name[1]), 30, 4)
        assert [what for _, what in found] == [f"{kind}{number}" for number in numbers for kind in "qc"]
        assert len({partition for partition, _ in found}) == 1


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


def test_acknowledged_events_survive_the_writers_sigkill(url: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, url, str(tmp_path / "writer.db")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        acknowledged = [writer.stdout.readline().strip() for _ in range(10)]
        writer.send_signal(signal.SIGKILL)
        acknowledged += writer.stdout.read().split()
    reader = KafkaEventLog(url, tmp_path / "reader.db")
    kept = reader.joined()["query_id"].to_pylist()
    assert set(acknowledged) <= set(kept)
    assert all(kept.count(query) == 2 for query in kept), "a message is there whole or not at all"
    reader.close()


def test_brokers_that_are_away_are_an_error_in_time(tmp_path: Path) -> None:
    log = KafkaEventLog("kafka://127.0.0.1:9/events", tmp_path / "view.db", timeout_s=1.0)
    with pytest.raises(EventLogError, match=r"did not take 1 of 1 messages.*127\.0\.0\.1:9"):
        log.record_impressions([shown("q", "u")])
    with pytest.raises(EventLogError, match="check that the brokers are there"):
        log.joined()
    log.close()


def test_a_foreign_message_is_told(url: str, brokers: str, tmp_path: Path) -> None:
    producer = Producer({"bootstrap.servers": brokers, "log_level": 2})
    producer.produce(KafkaUrl.parse(url).topic, value=b"[1]")
    assert producer.flush(30) == 0
    log = KafkaEventLog(url, tmp_path / "view.db")
    with pytest.raises(EventLogError, match="no event of IMMR"):
        log.joined()
    log.close()


def test_a_url_names_brokers_topic_and_settings(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret\n")
    url = KafkaUrl.parse(f"kafka://a:1,b:2/t?security.protocol=SSL&sasl.password.file={tmp_path}/password")
    assert url.topic == "t"
    assert url.config == {
        "bootstrap.servers": "a:1,b:2",
        "security.protocol": "SSL",
        "sasl.password": "secret",
    }
    for wrong in ("kafka://a:1", "kafka:///t", "http://a/t", "kafka://a/t/u", "kafka://a/t?x.file=/no/file"):
        with pytest.raises(SettingsError):
            KafkaUrl.parse(wrong)


def test_settings_that_librdkafka_does_not_know_are_told(tmp_path: Path) -> None:
    with pytest.raises(EventLogError, match=r"no\.such\.setting"):
        KafkaEventLog("kafka://127.0.0.1:9/t?no.such.setting=1", tmp_path / "view.db")


def test_the_wiring_knows_it(url: str, tmp_path: Path) -> None:
    log = wiring.event_log(Settings(home=tmp_path, events_url=url))
    later = NOON + timedelta(minutes=1)
    log.record_search(search("q", "u"), [shown("q", "u")])
    assert log.joined(later).num_rows == 0
    assert log.joined(NOON)["user_id"].to_pylist() == ["u"]
    log.close()
