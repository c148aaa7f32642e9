"""Events as Kafka messages: JSON, one search with all it showed, or one click. Times are microseconds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from immr.errors import EventLogError
from immr.types import Click, Impression, SearchRecord

T = TypeVar("T", SearchRecord, Impression, Click)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Message:
    """What goes to the topic; messages of one key keep their order."""

    key: bytes
    value: bytes


@dataclass(frozen=True)
class Events:
    """What a message says."""

    search: SearchRecord | None
    impressions: list[Impression]
    clicks: list[Click]


def of_search(search: SearchRecord | None, impressions: Sequence[Impression]) -> Message:
    """One message with both; its key is their user.

    Raises:
        EventLogError: a value is missing, or a time has no zone.
    """
    shown = [_plain(impression) for impression in impressions]
    user = search.user_id if search else impressions[0].user_id
    body = {"search": _plain(search) if search else None, "impressions": shown}
    return Message(str(user).encode(), _json(body))


def of_click(click: Click, key: str) -> Message:
    """One message; errors as of `of_search`."""
    return Message(key.encode(), _json({"click": _plain(click)}))


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
