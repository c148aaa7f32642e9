"""Events as Kafka messages: JSON, one search with all it showed, or one click. Times are microseconds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from immr.errors import EventLogError
from immr.events.order import order_key
from immr.types import Click, Impression, SearchRecord

T = TypeVar("T", SearchRecord, Impression, Click)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Message:
    """What goes to the topic; messages of one key share a partition, which keeps their order."""

    key: bytes
    value: bytes


@dataclass(frozen=True)
class Events:
    """What a message says."""

    search: SearchRecord | None
    impressions: list[Impression]
    clicks: list[Click]


def of_search(search: SearchRecord | None, impressions: Sequence[Impression]) -> Message:
    """One message with both, all of one query, whose order its key keeps.

    Raises:
        EventLogError: a value is missing, or a time has no zone.
    """
    shown = [_plain(impression) for impression in impressions]
    query_id = search.query_id if search else impressions[0].query_id
    body = {"search": _plain(search) if search else None, "impressions": shown}
    return Message(_key(query_id), _json(body))


def of_click(click: Click) -> Message:
    """One message, with the key of its search; errors as of `of_search`."""
    return Message(_key(click.query_id), _json({"click": _plain(click)}))


def read(value: bytes) -> Events:
    """What a message says.

    Raises:
        EventLogError: it is none of ours.
    """
    try:
        body = json.loads(value)
        search = body.get("search")
        return Events(
            _record(SearchRecord, search) if search else None,
            [_record(Impression, each) for each in body.get("impressions", ())],
            [_record(Click, body["click"])] if "click" in body else [],
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EventLogError(
            f"a message of the topic is no event of IMMR ({error}): give the event log a topic of its own"
        ) from error


def _key(query_id: str) -> bytes:
    return order_key(query_id).encode("utf-8", "replace")


def _plain(record: SearchRecord | Impression | Click) -> dict[str, Any]:
    values = asdict(record)
    if missing := [name for name, value in values.items() if value is None]:
        raise EventLogError(f"{type(record).__name__} has no {', '.join(missing)}: an event needs them all")
    if record.ts.tzinfo is None:
        raise EventLogError(f"ts={record.ts.isoformat()} has no time zone: pass datetime.now(UTC)")
    return values | {"ts": (record.ts - _EPOCH) // _MICROSECOND}


def _record(kind: type[T], values: Mapping[str, Any]) -> T:
    names = {field.name for field in fields(kind)}
    known = {name: value for name, value in values.items() if name in names}
    return kind(**known | {"ts": _EPOCH + values["ts"] * _MICROSECOND})


def _json(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
