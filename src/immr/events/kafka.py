"""Kafka as the event log: appended to by many gateways, read through a view on this machine.

A message is one search with all it showed, or one click. Its key comes from the query's id, so that a click
goes to its search's partition, whichever gateway takes it. A producer repeats what was not acknowledged, so
a message may come twice: the view, a SQLite event log, keeps the first by its ids. Reading first brings it up
to the end of the topic.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

import pyarrow as pa

from immr.errors import EventLogError, SettingsError
from immr.events.aggregates import Counted, CtrBucket, Funnel, Latency, SummedBy
from immr.events.kafka_messages import Message, of_click, of_search
from immr.events.kafka_view import KafkaView
from immr.types import Click, Impression, SearchRecord

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Producer

_TIMEOUT_S = 10.0
_POLL_S = 0.1
_REMEMBERED = 100_000
_EXAMPLE = "kafka://host:9092/immr-events"

_Id = tuple[str, ...] | tuple[str, str, str, int]
"""Its kind, and what makes an event of that kind one of its own."""


@dataclass(frozen=True)
class KafkaUrl:
    """`kafka://host:9092,host:9092/topic?security.protocol=SSL`: what follows the ? is librdkafka's.

    A setting whose name ends in `.file` is read from that file: secrets stand in no URL.
    """

    topic: str
    config: Mapping[str, str] = field(repr=False)  # there are secrets in it

    @classmethod
    def parse(cls, url: str) -> KafkaUrl:
        """Read a URL.

        Raises:
            SettingsError: it names no broker or no topic, or a file that cannot be read. The text has
                nothing of the URL, where passwords may be anywhere.
        """
        try:
            parts = urlsplit(url)
        except ValueError:
            raise SettingsError(f"the Kafka URL is none: use {_EXAMPLE}") from None
        if "@" in parts.netloc:
            raise SettingsError(
                "the Kafka URL has a user before its broker: name both as settings, "
                "?sasl.username=…&sasl.password.file=…"
            )
        topic = parts.path.strip("/")
        if parts.scheme != "kafka" or not parts.netloc or not topic or "/" in topic:
            raise SettingsError(f"the Kafka URL names no broker or no topic: use {_EXAMPLE}")
        config = {"bootstrap.servers": parts.netloc}
        for name, value in parse_qsl(parts.query):
            if name.endswith(".file"):
                try:
                    config[name.removesuffix(".file")] = Path(value).read_text().strip()
                except (OSError, UnicodeDecodeError) as error:
                    raise SettingsError(f"{name} of the Kafka URL cannot be read: {error}") from error
            else:
                config[name] = value
        return cls(topic, config)


class KafkaEventLog:
    """An `EventLog` in a Kafka topic.

    What `record_…` returns counts as new what this process has not recorded before; repeats of other
    processes are found when the view reads them.

    Args:
        url: Of the topic.
        view: SQLite file for what was read; shared by the processes of this machine.
        join_window: A click or an order counts for an impression until this long after it.
        timeout_s: How long the brokers may take.

    Raises:
        SettingsError: the URL is wrong.
        EventLogError: librdkafka does not take the settings.
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
        self._thread = _OfThread()
        self._closed = False
        with self._explained():
            self._producer = self._open_producer()

    def record_search(self, search: SearchRecord, impressions: Sequence[Impression]) -> int:
        """See `EventLog.record_search`: one message, so both or neither."""
        new = self._new_impressions(impressions)
        id = ("search", search.query_id)
        if new or self._is_new(id):
            self._send([of_search(search, list(new.values()))], [id, *new])
        return len(new)

    def record_impressions(self, impressions: Sequence[Impression]) -> int:
        """See `EventLog.record_impressions`: one message a query."""
        new = self._new_impressions(impressions)
        by_query: dict[str, list[Impression]] = {}
        for impression in new.values():
            by_query.setdefault(impression.query_id, []).append(impression)
        self._send([of_search(None, shown) for shown in by_query.values()], list(new))
        return len(new)

    def record_clicks(self, clicks: Sequence[Click]) -> int:
        """See `EventLog.record_clicks`: one message a click."""
        ids = {("click", click.event_id): click for click in clicks}
        new = {id: click for id, click in ids.items() if self._is_new(id)}
        self._send([of_click(click) for click in new.values()], list(new))
        return len(new)

    @contextmanager
    def batch(self) -> Iterator[None]:
        """See `EventLog.batch`: the brokers are waited for once; an error may leave a part."""
        batch = self._thread.batch = _Batch()
        try:
            yield
        finally:
            self._thread.batch = None
        self._send(batch.messages, list(batch.ids))

    def joined(self, since: datetime | None = None) -> pa.Table:
        """See `EventLog.joined`."""
        with self._explained():
            return self._view.caught_up().joined(since)

    def searches(self, since: datetime | None = None) -> pa.Table:
        """See `EventLog.searches`."""
        with self._explained():
            return self._view.caught_up().searches(since)

    def by_query(self, since: datetime | None = None) -> pa.Table:
        """See `EventLog.by_query`."""
        with self._explained():
            return self._view.caught_up().by_query(since)

    def summed_by(
        self, what: SummedBy, since: datetime | None = None, without_users: Collection[str] = ()
    ) -> list[Counted]:
        """See `EventLog.summed_by`."""
        with self._explained():
            return self._view.caught_up().summed_by(what, since, without_users)

    def ctr_over_time(self, bucket_s: int, since: datetime | None = None) -> list[CtrBucket]:
        """See `EventLog.ctr_over_time`."""
        with self._explained():
            return self._view.caught_up().ctr_over_time(bucket_s, since)

    def funnel(self, since: datetime | None = None) -> list[Funnel]:
        """See `EventLog.funnel`."""
        with self._explained():
            return self._view.caught_up().funnel(since)

    def latency(self, since: datetime | None = None) -> list[Latency]:
        """See `EventLog.latency`."""
        with self._explained():
            return self._view.caught_up().latency(since)

    def close(self) -> None:
        """See `EventLog.close`; a second time does nothing."""
        if not self._closed:
            self._closed = True
            self._producer.flush(self._timeout_s)
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
        """Return once the brokers have all of them, or in a batch once they wait for its end."""
        if self._closed:
            raise EventLogError("the event log is closed: open it again")
        if (batch := self._thread.batch) is not None:
            batch.messages += messages
            batch.ids.update(dict.fromkeys(ids))
            return
        failed: list[KafkaError] = []
        with self._explained(), self._lock:
            for message in messages:
                self._produce(message, failed)
                if failed:
                    break
            left = self._producer.flush(2 * self._timeout_s) if messages else 0
        if failed or left:
            why = failed[0].str() if failed else "no answer in time"
            raise EventLogError(
                f"Kafka did not take {len(failed) or left} of {len(messages)} messages ({why}): "
                f"check the brokers {self._url.config['bootstrap.servers']} and the topic {self._url.topic}"
            )
        self._recorded.add(ids)

    def _produce(self, message: Message, failed: list[KafkaError]) -> None:
        """Queue it, once there is room: what the brokers have leaves the queue, or do not take in time."""
        while not failed:
            try:
                self._producer.produce(
                    self._url.topic,
                    value=message.value,
                    key=message.key,
                    on_delivery=lambda error, _: failed.append(error) if error else None,
                )
                return
            except BufferError:
                if not len(self._producer):
                    raise  # it is too small for a single one
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
    def _explained(self) -> Iterator[None]:
        from confluent_kafka import KafkaException

        try:
            yield
        except (KafkaException, BufferError) as error:
            raise EventLogError(
                f"the Kafka event log {self._url.topic} at {self._url.config['bootstrap.servers']} failed "
                f"({error}): check that the brokers are there and the settings of the URL"
            ) from error


@dataclass
class _Batch:
    """What was recorded and not sent yet."""

    messages: list[Message] = field(default_factory=list)
    ids: dict[_Id, None] = field(default_factory=dict)  # in the order in which they came


class _OfThread(threading.local):
    batch: _Batch | None = None


class _Recent:
    """The last ids of each kind, and no more than fit; may be used from many threads.

    Clicks are few beside impressions, and come again much later.
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
