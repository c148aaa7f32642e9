"""The local view of a topic skips messages that IMMR did not write."""

from __future__ import annotations

import json
import logging
import socket
import struct
import uuid
from pathlib import Path

import pytest
from confluent_kafka import Producer

from immr.events.kafka.log import KafkaEventLog
from immr.events.kafka.messages import of_search
from immr.events.kafka.url import KafkaUrl
from immr.events.query_ids import new_query_id, user_key
from tests.events.kafka.test_log import brokers, search, shown
from tests.support.kafka_cluster import mock_cluster

__all__ = ["brokers"]

IMPRESSION = json.loads(of_search(None, [shown("theirs", "u")]).value)["impressions"][0]
FOREIGN = [
    b"[1]",
    b"not json",
    b"\xff\xff",
    b"",
    json.dumps({"impressions": [IMPRESSION | {"user_id": None}]}).encode(),
    json.dumps({"impressions": [IMPRESSION | {"position": "first"}]}).encode(),
    json.dumps({"impressions": [IMPRESSION | {"ts": 2**80}]}).encode(),
    json.dumps({"click": {"event_id": "c"}}).encode(),
]


def test_foreign_messages_are_skipped_counted_and_logged(
    brokers: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"kafka://{brokers}/t{uuid.uuid4().hex}"
    log = KafkaEventLog(url, tmp_path / "view.db")
    log.record_search(search("before", "u"), [shown("before", "u")])
    producer = Producer({"bootstrap.servers": brokers, "log_level": 2})
    for value in FOREIGN:
        producer.produce(KafkaUrl.parse(url).topic, value=value)
    assert producer.flush(30) == 0
    log.record_search(search("after", "u"), [shown("after", "u")])
    with caplog.at_level(logging.WARNING):
        assert sorted(log.joined()["query_id"].to_pylist()) == ["after", "before"]
    assert log.skipped == len(FOREIGN)
    assert "partition" in caplog.text and "is not an event of IMMR" in caplog.text
    assert log.searches().num_rows == 2
    assert log.skipped == len(FOREIGN), "a skipped message is read once"
    log.close()


def produce_commit_marker(brokers: str, topic: str, partition: int) -> None:
    """Write what ends a transaction: a batch whose one record no consumer gets (KIP-98)."""
    key, value = struct.pack(">hh", 0, 1), struct.pack(">hi", 0, 0)
    fields = b"\0\0\0" + bytes([2 * len(key)]) + key + bytes([2 * len(value)]) + value + b"\0"
    record = bytes([2 * len(fields)]) + fields
    transactional_and_control, now = 0x30, 1_700_000_000_000
    content = struct.pack(">hiqqqhii", transactional_and_control, 0, now, now, 1, 0, -1, 1) + record
    batch = struct.pack(">ibI", 0, 2, 0) + content  # the checksum is not checked by default
    batch = struct.pack(">qi", 0, len(batch)) + batch
    name = topic.encode()
    body = struct.pack(">hhiih", -1, -1, 5000, 1, len(name)) + name
    body += struct.pack(">iii", 1, partition, len(batch)) + batch
    request = struct.pack(">hhih", 0, 3, 1, -1) + body  # Produce, version 3
    host, port = brokers.split(",")[0].rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=10) as broker:
        broker.sendall(struct.pack(">i", len(request)) + request)
        answer = broker.recv(1000)
    error, offset = struct.unpack_from(">hq", answer, 4 + 4 + 4 + 2 + len(name) + 4 + 4)
    assert (error, offset) == (0, 1), "it follows the one message"


def test_a_partition_that_ends_with_a_transaction_is_read_to_its_end(brokers: str, tmp_path: Path) -> None:
    url = f"kafka://{brokers}/t{uuid.uuid4().hex}"
    topic = KafkaUrl.parse(url).topic
    placed: list[int] = []
    producer = Producer({"bootstrap.servers": brokers, "log_level": 2})
    producer.produce(
        topic,
        value=of_search(search("q", "u"), [shown("q", "u")]).value,
        on_delivery=lambda error, message: placed.append(message.partition()),
    )
    assert producer.flush(30) == 0
    produce_commit_marker(brokers, topic, placed[0])
    log = KafkaEventLog(url, tmp_path / "view.db", timeout_s=5.0)
    for _ in range(2):
        assert log.searches()["query_id"].to_pylist() == ["q"]
    assert log.skipped == 0
    log.close()


@pytest.mark.parametrize("written_since", [3, 4, 7])
def test_a_topic_that_was_deleted_and_created_again_is_read_from_its_start(
    brokers: str, tmp_path: Path, written_since: int
) -> None:
    """Its messages up to the offset that was reached before were lost, since the offset was within its range."""
    topic, read = f"t{uuid.uuid4().hex}", set[str]()
    with mock_cluster() as again:  # another cluster, because the stand-in deletes no topics
        for addresses, count in ((brokers, 4), (again, written_since), (again, 1)):
            log = KafkaEventLog(f"kafka://{addresses}/{topic}", tmp_path / "view.db")
            for _ in range(count):
                query = new_query_id(user_key("ann"))  # of one user, so in one partition
                log.record_search(search(query, "ann"), [shown(query, "ann")])
                read.add(query)
            found = set(log.searches()["query_id"].to_pylist())
            log.close()
            if (addresses, count) == (again, 4):
                continue  # as many as before: only a further message shows that it is another topic
            assert found == read
