"""A local copy of a Kafka topic: a SQLite event log, with the offsets it has reached in a file beside it.

Offsets are written after the rows are durable. A process that dies in between reads some messages again,
which the event ids make harmless.

A topic that was deleted and created again may have messages at these offsets, too. So a hash of the last message is
kept with each offset, and reading begins with that message: if it is another, the whole partition is read.
"""

from __future__ import annotations

import fcntl
import json
import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from immr.errors import EventLogError, EventRefusedError
from immr.events.kafka.messages import Events, read
from immr.events.sqlite.log import SqliteEventLog
from immr.machine.wording import counted
from immr.storage import fingerprint
from immr.storage.atomic import write_atomically

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Message, TopicPartition

_LOG = logging.getLogger(__name__)
_MESSAGES_PER_READ = 1000
_LAST = "last"


@dataclass(frozen=True)
class _Place:
    """How far a partition was read."""

    offset: int  # of the next message
    last: int | None = None  # the offset of the last message; None if that is not known
    hash: str = ""  # of its content


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
            reached, bounds = self._reached(), self._bounds(consumer)
            places: dict[int, _Place] = {}
            for partition, (first, end) in bounds.items():
                place = reached.get(partition, _Place(first))
                # the offset is out of range if the topic dropped old messages or was recreated
                places[partition] = place if first <= place.offset <= end else _Place(first)
            self._assign(consumer, places, bounds)
            while missing := sum(max(0, end - places[number].offset) for number, (_, end) in bounds.items()):
                # consume waits until it has this many messages, so never ask for more than exist
                messages = consumer.consume(min(missing, _MESSAGES_PER_READ), self._timeout_s)
                if not messages:
                    raise EventLogError(
                        f"Kafka returned no message of {self._topic} within {self._timeout_s:g} s although "
                        f"{missing} are missing: check the brokers, then try again"
                    )
                if recreated := _recreated(messages, places):
                    _LOG.warning(
                        "%s was recreated; its partitions %s are read from the start", self._topic, recreated
                    )
                    places |= {partition: _Place(bounds[partition][0]) for partition in recreated}
                    self._assign(consumer, places, bounds)
                    continue
                self._store(log, messages, places)
        finally:
            consumer.close()

    def _assign(
        self, consumer: Consumer, places: Mapping[int, _Place], bounds: Mapping[int, tuple[int, int]]
    ) -> None:
        """Read the partitions that have more messages, each from the last one that was read."""
        begin = {
            partition: places[partition].offset
            if (last := places[partition].last) is None
            else max(last, first)
            for partition, (first, end) in bounds.items()
            if places[partition].offset < end
        }
        consumer.assign([self._at(partition, offset) for partition, offset in sorted(begin.items())])

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

    def _store(self, log: SqliteEventLog, messages: Sequence[Message], places: dict[int, _Place]) -> None:
        """Store messages and how far they reach; those that are not events of IMMR are skipped."""
        from confluent_kafka import KafkaError

        reasons = []
        with log.batch():
            for message in messages:
                partition, offset = _position(message)
                if error := message.error():
                    if error.code() == KafkaError._PARTITION_EOF:
                        places[partition] = replace(places[partition], offset=offset)
                        continue
                    raise EventLogError(
                        f"Kafka returned an error for {self._topic} ({error.str()}): try again"
                    )
                if offset < places[partition].offset:  # it was read before
                    continue
                try:
                    _record(log, read(message.value() or b""))
                except EventRefusedError as refused:
                    reasons.append(f"partition {partition}, offset {offset}: {refused}")
                places[partition] = _Place(offset + 1, offset, _hash(message))
        self._keep(places)
        if reasons:
            self.skipped += len(reasons)
            _LOG.warning(
                "skipped %s of %s; the first: %s", counted(len(reasons), "message"), self._topic, reasons[0]
            )

    def _reached(self) -> dict[int, _Place]:
        """How far each partition was read."""
        stored = self._stored()
        last = stored.pop(_LAST, {})
        return {int(name): _Place(offset, *last.get(name, ())) for name, offset in stored.items()}

    def _keep(self, places: Mapping[int, _Place]) -> None:
        """Offsets are numbers by partition, as earlier releases read them."""
        stored = self._stored()
        last = stored.get(_LAST, {}) | {str(name): [place.last, place.hash] for name, place in places.items()}
        offsets = {str(name): place.offset for name, place in places.items()}
        write_atomically(self._offsets_file, json.dumps(stored | offsets | {_LAST: last}))

    def _stored(self) -> dict[str, Any]:
        file = self._offsets_file
        return dict(json.loads(file.read_text())) if file.is_file() else {}

    @property
    def _offsets_file(self) -> Path:
        return self._path.with_suffix(".places.json")

    def _at(self, partition: int, offset: int) -> TopicPartition:
        from confluent_kafka import TopicPartition

        return TopicPartition(self._topic, partition, offset)


def _position(message: Message) -> tuple[int, int]:
    return int(message.partition() or 0), int(message.offset() or 0)


def _hash(message: Message) -> str:
    return fingerprint.of_bytes(message.value() or b"")[:16]


def _recreated(messages: Sequence[Message], places: Mapping[int, _Place]) -> list[int]:
    """The partitions that have another message where the last one was read."""
    found = set()
    for message in messages:
        partition, offset = _position(message)
        place = places[partition]
        if message.error() is None and offset == place.last and _hash(message) != place.hash:
            found.add(partition)
    return sorted(found)


def _record(log: SqliteEventLog, events: Events) -> None:
    if events.search is not None:
        log.record_search(events.search, events.impressions)
    else:
        log.record_impressions(events.impressions)
    log.record_clicks(events.clicks)
