"""A local copy of a Kafka topic: a SQLite event log, with the offsets it has reached in a file beside it.

Offsets are written after the rows are durable. A process that dies in between reads some messages again,
which the event ids make harmless.
"""

from __future__ import annotations

import fcntl
import json
import logging
import threading
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from immr.errors import EventLogError, EventRefusedError
from immr.events.kafka.messages import Events, read
from immr.events.sqlite.log import SqliteEventLog
from immr.machine.wording import counted
from immr.storage.atomic import write_atomically

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Message, TopicPartition

_LOG = logging.getLogger(__name__)
_MESSAGES_PER_READ = 1000


class KafkaView:
    """A topic as an event log for reading. Processes of one machine share its file; one at a time updates it.

    Attributes:
        skipped: Messages skipped since this object was created because IMMR did not write them.
    """

    def __init__(
        self, topic: str, config: Mapping[str, str], path: Path, join_window: timedelta, timeout_s: float
    ) -> None:
        """Store the arguments; files and connections are opened by the first read."""
        self._topic = topic
        self._config = config
        self._path = path
        self._join_window = join_window
        self._timeout_s = timeout_s
        self._log: SqliteEventLog | None = None
        self._lock = threading.Lock()
        self.skipped = 0

    def caught_up(self) -> SqliteEventLog:
        """The view, updated to the current end of the topic.

        Raises:
            EventLogError: The brokers do not answer in time.
            KafkaException: librdkafka failed.
        """
        with self._lock:
            if self._log is None:
                self._log = SqliteEventLog(self._path, self._join_window)
            with self._path.with_suffix(".lock").open("a") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                self._catch_up(self._log)
            return self._log

    def close(self) -> None:
        """Close the file."""
        if self._log is not None:
            self._log.close()

    def _catch_up(self, log: SqliteEventLog) -> None:
        consumer = self._open_consumer()
        try:
            stored, offsets, ends = self._stored_offsets(), {}, {}
            for partition, (first, ends[partition]) in self._bounds(consumer).items():
                offset = stored.get(str(partition), first)
                # the offset is out of range if the topic dropped old messages or was recreated
                offsets[partition] = offset if first <= offset <= ends[partition] else first
            behind = {partition for partition, end in ends.items() if offsets[partition] < end}
            consumer.assign([self._at(partition, offsets[partition]) for partition in sorted(behind)])
            while behind:
                missing = sum(ends[partition] - offsets[partition] for partition in behind)
                # consume waits until it has this many messages, so never ask for more than exist
                messages = consumer.consume(min(missing, _MESSAGES_PER_READ), self._timeout_s)
                if not messages:
                    raise EventLogError(
                        f"Kafka returned no message of {self._topic} within {self._timeout_s:g} s although "
                        f"{missing} are missing: check the brokers, then try again"
                    )
                self._store(log, messages, offsets)
                behind = {partition for partition in behind if offsets[partition] < ends[partition]}
        finally:
            consumer.close()

    def _open_consumer(self) -> Consumer:
        from confluent_kafka import Consumer

        return Consumer(
            {
                **self._config,
                "group.id": "immr-view",  # required; unused, because the view keeps its own offsets
                "enable.auto.commit": False,
                "enable.partition.eof": True,  # the last offset may be the end of a transaction, which is no message
                "auto.offset.reset": "earliest",  # if the topic dropped the message at our offset
                "log_level": 2,
            }
        )

    def _bounds(self, consumer: Consumer) -> dict[int, tuple[int, int]]:
        """For each partition, the offset of its first message and the offset after its last."""
        from confluent_kafka import KafkaError, KafkaException

        topic = consumer.list_topics(self._topic, timeout=self._timeout_s).topics[self._topic]
        # a topic that does not exist yet is empty; any other error must not look like an empty log
        if topic.error is not None and topic.error.code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise KafkaException(topic.error)
        bounds = {}
        for partition in topic.partitions:
            first, end = consumer.get_watermark_offsets(self._at(partition, 0), timeout=self._timeout_s)
            bounds[partition] = (first, end)
        return bounds

    def _store(self, log: SqliteEventLog, messages: Sequence[Message], offsets: dict[int, int]) -> None:
        """Store messages and how far they reach; those that are not events of IMMR are skipped."""
        from confluent_kafka import KafkaError

        reasons = []
        with log.batch():
            for message in messages:
                partition, offset = int(message.partition() or 0), int(message.offset() or 0)
                if error := message.error():
                    if error.code() == KafkaError._PARTITION_EOF:
                        offsets[partition] = offset
                        continue
                    raise EventLogError(
                        f"Kafka returned an error for {self._topic} ({error.str()}): try again"
                    )
                try:
                    _record(log, read(message.value() or b""))
                except EventRefusedError as refused:
                    reasons.append(f"partition {partition}, offset {offset}: {refused}")
                offsets[partition] = offset + 1
        stored = self._stored_offsets() | {str(partition): offset for partition, offset in offsets.items()}
        write_atomically(self._offsets_file, json.dumps(stored))
        if reasons:
            self.skipped += len(reasons)
            _LOG.warning(
                "skipped %s of %s; the first: %s", counted(len(reasons), "message"), self._topic, reasons[0]
            )

    def _stored_offsets(self) -> dict[str, int]:
        file = self._offsets_file
        offsets: dict[str, int] = json.loads(file.read_text()) if file.is_file() else {}
        return offsets

    @property
    def _offsets_file(self) -> Path:
        return self._path.with_suffix(".places.json")

    def _at(self, partition: int, offset: int) -> TopicPartition:
        from confluent_kafka import TopicPartition

        return TopicPartition(self._topic, partition, offset)


def _record(log: SqliteEventLog, events: Events) -> None:
    if events.search is not None:
        log.record_search(events.search, events.impressions)
    else:
        log.record_impressions(events.impressions)
    log.record_clicks(events.clicks)
