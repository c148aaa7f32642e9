"""The local view of a topic skips messages that IMMR did not write."""

from __future__ import annotations

import json
import logging
import uuid
from pathlib import Path

import pytest
from confluent_kafka import Producer

from immr.events.kafka.log import KafkaEventLog
from immr.events.kafka.messages import of_search
from immr.events.kafka.url import KafkaUrl
from tests.events.kafka.test_log import brokers, search, shown

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
