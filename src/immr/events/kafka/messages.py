"""Events as Kafka messages: JSON with one search and all items it showed, or one click. Times are in microseconds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from immr.errors import EventRefusedError
from immr.events.query_ids import order_key
from immr.types import Click, Impression, SearchRecord

T = TypeVar("T", SearchRecord, Impression, Click)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_JSON_TYPES: Mapping[str, tuple[type, ...]] = {  # by the annotation of a field
    "str": (str,),
    "EventType": (str,),
    "int": (int,),
    "datetime": (int,),
    "float": (int, float),
    "bool": (bool,),
    "float | None": (int, float, type(None)),
}


@dataclass(frozen=True)
class Message:
    """What is sent to the topic; messages with the same key share a partition, which keeps their order."""

    key: bytes
    value: bytes


@dataclass(frozen=True)
class Events:
    """The content of a message."""

    search: SearchRecord | None
    impressions: list[Impression]
    clicks: list[Click]


def of_search(search: SearchRecord | None, impressions: Sequence[Impression]) -> Message:
    """One message with a search and its impressions, all of one query.

    Raises:
        EventRefusedError: A value is missing, or a time has no zone.
    """
    shown = [_plain(impression) for impression in impressions]
    query_id = search.query_id if search else impressions[0].query_id
    body = {"search": _plain(search) if search else None, "impressions": shown}
    return Message(_key(query_id), _json(body))


def of_click(click: Click) -> Message:
    """One message with a click, under the key of its search.

    Raises:
        EventRefusedError: A value is missing, or its time has no zone.
    """
    return Message(_key(click.query_id), _json({"click": _plain(click)}))


def read(value: bytes) -> Events:
    """Decode a message.

    Raises:
        EventRefusedError: IMMR did not write it.
    """
    try:
        body = json.loads(value)
        search = body.get("search")
        return Events(
            _record(SearchRecord, search) if search else None,
            [_record(Impression, each) for each in body.get("impressions", ())],
            [_record(Click, body["click"])] if "click" in body else [],
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise EventRefusedError(
            f"a Kafka message is not an event of IMMR ({error}): use a topic for IMMR's events alone"
        ) from error


def _key(query_id: str) -> bytes:
    return order_key(query_id).encode("utf-8", "replace")


def _plain(record: SearchRecord | Impression | Click) -> dict[str, Any]:
    values = asdict(record)
    optional = {field.name for field in fields(record) if field.default is None}
    if missing := [name for name, value in values.items() if value is None and name not in optional]:
        raise EventRefusedError(f"{type(record).__name__} lacks {', '.join(missing)}: events need all fields")
    if record.ts.tzinfo is None:
        raise EventRefusedError(f"the time {record.ts.isoformat()} has no time zone: use datetime.now(UTC)")
    return values | {"ts": (record.ts - _EPOCH) // _MICROSECOND}


def _record(kind: type[T], values: Mapping[str, Any]) -> T:
    """Build a record; unknown fields, which a newer release may have added, are ignored."""
    known = {}
    for field in fields(kind):
        if field.name not in values:
            continue  # an optional field, or else the constructor raises
        value = known[field.name] = values[field.name]
        if type(value) not in _JSON_TYPES[str(field.type)]:
            raise TypeError(f"{field.name} is {value!r}")
    return kind(**known | {"ts": _EPOCH + values["ts"] * _MICROSECOND})


def _json(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
