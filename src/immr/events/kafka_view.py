"""What was read of a Kafka topic, in a SQLite event log; how far it got stands beside it.

The place is written after the rows are safe: whoever dies in between reads some messages twice, which the
view's ids make harmless.
"""

from __future__ import annotations

import fcntl
import json
import threading
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from immr.errors import EventLogError
from immr.events.kafka_messages import read
from immr.events.sqlite import SqliteEventLog
from immr.storage.atomic import write_atomically

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Message, TopicPartition

_AT_ONCE = 1000


class KafkaView:
    """A topic as an event log to read from; processes of one machine share its file, one writes at a time."""

    def __init__(
        self, topic: str, config: Mapping[str, str], path: Path, join_window: timedelta, timeout_s: float
    ) -> None:
        """Nothing is opened before it is first read."""
        self._topic = topic
        self._config = config
        self._path = path
        self._join_window = join_window
        self._timeout_s = timeout_s
        self._log: SqliteEventLog | None = None
        self._lock = threading.Lock()

    def caught_up(self) -> SqliteEventLog:
        """The view with everything that the topic has now.

        Raises:
            EventLogError: the brokers do not answer in time, or a message is none of ours.
            KafkaException: what librdkafka says.
        """
        with self._lock:
            if self._log is None:
                self._log = SqliteEventLog(self._path, self._join_window)
            with self._path.with_suffix(".lock").open("a") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                self._catch_up(self._log)
            return self._log

    def close(self) -> None:
        """Let go of the file."""
        if self._log is not None:
            self._log.close()

    def _catch_up(self, log: SqliteEventLog) -> None:
        consumer = self._open_consumer()
        try:
            noted, places, ends = self._places(), {}, {}
            for partition, (first, ends[partition]) in self._bounds(consumer).items():
                place = noted.get(str(partition), first)
                # a topic forgets what is old, and may be made anew
                places[partition] = place if first <= place <= ends[partition] else first
            left = {partition for partition, end in ends.items() if places[partition] < end}
            consumer.assign([self._at(partition, places[partition]) for partition in sorted(left)])
            while left:
                waiting = sum(ends[partition] - places[partition] for partition in left)
                # it waits for as many as it is asked for: no more than there are
                messages = consumer.consume(min(waiting, _AT_ONCE), self._timeout_s)
                if not messages:
                    raise EventLogError(
                        f"Kafka gave no message of {self._topic} in {self._timeout_s:g} s, though there are "
                        "some: check the brokers, then read again"
                    )
                self._store(log, messages, places)
                left = {partition for partition in left if places[partition] < ends[partition]}
        finally:
            consumer.close()

    def _open_consumer(self) -> Consumer:
        from confluent_kafka import Consumer

        return Consumer(
            {
                **self._config,
                "group.id": "immr-view",  # named because it must be; places are our own
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",  # where the topic has forgotten our place
                "log_level": 2,
            }
        )

    def _bounds(self, consumer: Consumer) -> dict[int, tuple[int, int]]:
        """By partition, where the first message is and where the next would be."""
        from confluent_kafka import KafkaError, KafkaException

        found = consumer.list_topics(self._topic, timeout=self._timeout_s).topics[self._topic]
        # one that is not there yet is empty; any other error is not to pass for an empty log
        if found.error is not None and found.error.code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise KafkaException(found.error)
        bounds = {}
        for partition in found.partitions:
            first, end = consumer.get_watermark_offsets(self._at(partition, 0), timeout=self._timeout_s)
            bounds[partition] = (first, end)
        return bounds

    def _store(self, log: SqliteEventLog, messages: Sequence[Message], places: dict[int, int]) -> None:
        with log.batch():
            for message in messages:
                if error := message.error():
                    raise EventLogError(f"Kafka gave no message of {self._topic} ({error.str()}): read again")
                events = read(message.value() or b"")
                if events.search is not None:
                    log.record_search(events.search, events.impressions)
                else:
                    log.record_impressions(events.impressions)
                log.record_clicks(events.clicks)
                places[int(message.partition() or 0)] = int(message.offset() or 0) + 1
        stored = self._places() | {str(partition): place for partition, place in places.items()}
        write_atomically(self._places_file, json.dumps(stored))

    def _places(self) -> dict[str, int]:
        file = self._places_file
        found: dict[str, int] = json.loads(file.read_text()) if file.is_file() else {}
        return found

    @property
    def _places_file(self) -> Path:
        return self._path.with_suffix(".places.json")

    def _at(self, partition: int, offset: int) -> TopicPartition:
        from confluent_kafka import TopicPartition

        return TopicPartition(self._topic, partition, offset)
