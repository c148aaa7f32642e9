"""Kafka as the event log: any number of gateways append to a topic, readers use a local view of it.

A message is one search with all it showed, or one click. Its key is derived from the query's id, so a click
goes to the partition of its search, whichever gateway accepts it. Producers repeat what was not
acknowledged, so a message may arrive twice; the view, a SQLite event log, keeps the first by its ids. Each
read first updates the view to the end of the topic.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from immr.errors import EventLogError, EventRefusedError
from immr.events.aggregates import Counted, CtrBucket, Funnel, Latency, SummedBy
from immr.events.event_log import EventTable, Shown
from immr.events.kafka.messages import Message, of_click, of_search
from immr.events.kafka.url import KafkaUrl
from immr.events.kafka.view import KafkaView
from immr.types import Click, Impression, SearchRecord

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Producer

_TIMEOUT_S = 10.0
_POLL_S = 0.1
_REMEMBERED = 100_000

_Id = tuple[str, ...] | tuple[str, str, str, int]
"""The kind of an event, and what identifies it among those of its kind."""


class KafkaEventLog:
    """An `EventLog` in a Kafka topic.

    The `record_…` methods count as new what this process has not recorded before. Repeats by other processes
    are dropped when the view reads them.

    Args:
        url: See `KafkaUrl`.
        view: SQLite file for the local view; processes of this machine share it.
        join_window: A click or an order counts for an impression until this long after it.
        timeout_s: How long the brokers may take to answer.

    Raises:
        SettingsError: The URL is wrong.
        EventLogError: librdkafka refuses the settings.
    """

    def __init__(
        self,
        url: str,
        view: Path,
        join_window: timedelta = timedelta(hours=24),
        timeout_s: float = _TIMEOUT_S,
    ) -> None:
        self._url = KafkaUrl.parse(url)
        self._timeout_s = timeout_s
        self._view = KafkaView(self._url.topic, self._url.config, view, join_window, timeout_s)
        self._recorded = _Recent()
        self._lock = threading.Lock()
        self._thread = _ThreadState()
        self._closed = False
        with self._translate_errors():
            self._producer = self._open_producer()

    @property
    def skipped(self) -> int:
        """Messages that this process has skipped because IMMR did not write them."""
        return self._view.skipped

    def record_search(self, search: SearchRecord, impressions: Sequence[Impression]) -> int:
        """See `EventLog.record_search`; one message, so it is atomic."""
        new = self._new_impressions(impressions)
        id = ("search", search.query_id)
        if new or self._is_new(id):
            self._send([of_search(search, list(new.values()))], [id, *new])
        return len(new)

    def record_impressions(self, impressions: Sequence[Impression]) -> int:
        """See `EventLog.record_impressions`; one message per query."""
        new = self._new_impressions(impressions)
        by_query: dict[str, list[Impression]] = {}
        for impression in new.values():
            by_query.setdefault(impression.query_id, []).append(impression)
        self._send([of_search(None, shown) for shown in by_query.values()], list(new))
        return len(new)

    def record_clicks(self, clicks: Sequence[Click]) -> int:
        """See `EventLog.record_clicks`; one message per click."""
        ids = {("click", click.event_id): click for click in clicks}
        new = {id: click for id, click in ids.items() if self._is_new(id)}
        self._send([of_click(click) for click in new.values()], list(new))
        return len(new)

    def record_all(self, searches: Sequence[Shown], clicks: Sequence[Sequence[Click]]) -> list[int]:
        """See `EventLog.record_all`."""
        with self.batch():
            for search, impressions in searches:
                self.record_search(search, impressions)
            return [self.record_clicks(group) for group in clicks]

    @contextmanager
    def batch(self) -> Iterator[None]:
        """See `EventLog.batch`; waits for the brokers once. After an error some events may be recorded."""
        batch = self._thread.batch = _Batch()
        try:
            yield
        finally:
            self._thread.batch = None
        self._send(batch.messages, list(batch.ids))

    def batches(
        self, table: EventTable, since: datetime | None = None
    ) -> Generator[pa.RecordBatch, None, None]:
        """See `EventLog.batches`."""
        with self._translate_errors():
            yield from self._view.caught_up().batches(table, since)

    def joined(self, since: datetime | None = None) -> pa.Table:
        """See `EventLog.joined`."""
        with self._translate_errors():
            return self._view.caught_up().joined(since)

    def searches(self, since: datetime | None = None) -> pa.Table:
        """See `EventLog.searches`."""
        with self._translate_errors():
            return self._view.caught_up().searches(since)

    def clicks(self, since: datetime | None = None) -> pa.Table:
        """See `EventLog.clicks`."""
        with self._translate_errors():
            return self._view.caught_up().clicks(since)

    def recent_clicks(
        self, per_user: int, most: int, since: datetime | None = None, without_users: Collection[str] = ()
    ) -> pa.Table:
        """See `EventLog.recent_clicks`."""
        with self._translate_errors():
            return self._view.caught_up().recent_clicks(per_user, most, since, without_users)

    def by_query(self, since: datetime | None = None) -> pa.Table:
        """See `EventLog.by_query`."""
        with self._translate_errors():
            return self._view.caught_up().by_query(since)

    def summed_by(
        self,
        what: SummedBy,
        since: datetime | None = None,
        without_users: Collection[str] = (),
        until: datetime | None = None,
    ) -> list[Counted]:
        """See `EventLog.summed_by`."""
        with self._translate_errors():
            return self._view.caught_up().summed_by(what, since, without_users, until)

    def ctr_over_time(self, bucket_s: int, since: datetime | None = None) -> list[CtrBucket]:
        """See `EventLog.ctr_over_time`."""
        with self._translate_errors():
            return self._view.caught_up().ctr_over_time(bucket_s, since)

    def period(
        self, without_variants: Collection[str] = (), since: datetime | None = None
    ) -> tuple[datetime, datetime] | None:
        """See `EventLog.period`."""
        with self._translate_errors():
            return self._view.caught_up().period(without_variants, since)

    def funnel(self, since: datetime | None = None) -> list[Funnel]:
        """See `EventLog.funnel`."""
        with self._translate_errors():
            return self._view.caught_up().funnel(since)

    def latency(self, since: datetime | None = None) -> list[Latency]:
        """See `EventLog.latency`."""
        with self._translate_errors():
            return self._view.caught_up().latency(since)

    def close(self) -> None:
        """See `EventLog.close`."""
        if not self._closed:
            self._closed = True
            try:
                self._producer.flush(self._timeout_s)
            finally:
                self._view.close()

    def _open_producer(self) -> Producer:
        from confluent_kafka import Producer

        return Producer(
            {
                **self._url.config,
                "acks": "all",
                "enable.idempotence": True,  # retries keep their order
                "message.timeout.ms": int(1000 * self._timeout_s),
                "log_level": 2,
            }
        )

    def _send(self, messages: Sequence[Message], ids: Sequence[_Id]) -> None:
        """Send and wait for the brokers; within a batch, only queue the messages for its end."""
        if self._closed:
            raise EventLogError("the event log is closed: open it again")
        if (batch := self._thread.batch) is not None:
            batch.messages += messages
            batch.ids.update(dict.fromkeys(ids))
            return
        failed: list[KafkaError] = []
        with self._translate_errors(), self._lock:
            for message in messages:
                self._produce(message, failed)
                if failed:
                    break
            left = self._producer.flush(2 * self._timeout_s) if messages else 0
        if failed or left:
            why = failed[0].str() if failed else "no answer in time"
            kind = EventRefusedError if failed and _is_final(failed[0]) else EventLogError
            raise kind(
                f"Kafka did not accept {len(failed) or left} of {len(messages)} messages ({why}): "
                f"check the brokers {self._url.config['bootstrap.servers']} and the topic {self._url.topic}"
            )
        self._recorded.add(ids)

    def _produce(self, message: Message, failed: list[KafkaError]) -> None:
        """Queue a message, waiting for room: messages leave the queue when acknowledged or timed out."""
        from confluent_kafka import KafkaException

        while not failed:
            try:
                self._producer.produce(
                    self._url.topic,
                    value=message.value,
                    key=message.key,
                    on_delivery=lambda error, _: failed.append(error) if error else None,
                )
                return
            except KafkaException as error:
                failed.append(error.args[0])
            except BufferError:
                if not len(self._producer):
                    raise  # the queue is too small for a single message
                self._producer.poll(_POLL_S)

    def _new_impressions(self, impressions: Iterable[Impression]) -> dict[_Id, Impression]:
        ids: dict[_Id, Impression] = {
            ("impression", each.query_id, each.item_id, each.position): each for each in impressions
        }
        return {id: each for id, each in ids.items() if self._is_new(id)}

    def _is_new(self, id: _Id) -> bool:
        batch = self._thread.batch
        return id not in self._recorded and not (batch and id in batch.ids)

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        from confluent_kafka import KafkaException

        try:
            yield
        except (KafkaException, BufferError) as error:
            raise EventLogError(
                f"the Kafka event log {self._url.topic} at {self._url.config['bootstrap.servers']} failed "
                f"({error}): check that the brokers are running, and the settings in the URL"
            ) from error


@dataclass
class _Batch:
    """Events recorded but not sent yet."""

    messages: list[Message] = field(default_factory=list)
    ids: dict[_Id, None] = field(default_factory=dict)  # in insertion order


class _ThreadState(threading.local):
    batch: _Batch | None = None


class _Recent:
    """The most recent ids of each kind; thread safe.

    Kinds are kept apart because clicks are few and are repeated much later than impressions.
    """

    def __init__(self) -> None:
        self._ids: dict[str, dict[_Id, None]] = {"search": {}, "impression": {}, "click": {}}
        self._lock = threading.Lock()

    def __contains__(self, id: _Id) -> bool:
        return id in self._ids[id[0]]

    def add(self, ids: Iterable[_Id]) -> None:
        with self._lock:
            for id in ids:
                of_kind = self._ids[id[0]]
                of_kind[id] = None
                if len(of_kind) > _REMEMBERED:
                    del of_kind[next(iter(of_kind))]


def _is_final(error: KafkaError) -> bool:
    """Whether sending the same message again would fail again."""
    return error.code() in (error.MSG_SIZE_TOO_LARGE, error.INVALID_RECORD)
