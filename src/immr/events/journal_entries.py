"""The entries of the journal: searches with the items they showed, and clicks; one JSON line each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any, TypeVar

from immr.errors import EventLogError
from immr.types import Click, Impression, SearchRecord

T = TypeVar("T", SearchRecord, Click)
_SEARCH_FIELDS = [field.name for field in fields(SearchRecord)]


@dataclass(frozen=True, slots=True)
class Shown:
    """A search and the items it showed.

    Attributes:
        items: item_id and 1-based position of each hit.
        versions: In an interleaved answer, the model version that contributed each hit; otherwise empty.
    """

    search: SearchRecord
    items: tuple[tuple[str, int], ...]
    versions: tuple[str, ...] = ()

    @property
    def impressions(self) -> list[Impression]:
        """One impression per item."""
        search = self.search
        versions = self.versions or (search.model_version,) * len(self.items)
        return [
            Impression(search.query_id, item_id, position, search.user_id, search.variant, version, search.ts)
            for (item_id, position), version in zip(self.items, versions, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Clicked:
    """Clicks or orders of one request, all of one type, variant and model version.

    Attributes:
        ticket: Id by which the process that accepted the clicks finds the caller waiting for the result.
    """

    clicks: tuple[Click, ...]
    ticket: str
    variant: str
    model_version: str


Entry = Shown | Clicked


def to_line(entry: Entry) -> bytes:
    """The entry as a line of JSON.

    Raises:
        EventLogError: A string cannot be encoded as UTF-8.
    """
    content: dict[str, Any]
    if isinstance(entry, Shown):
        # asdict would copy every value, which is measurably slower
        search = {name: getattr(entry.search, name) for name in _SEARCH_FIELDS}
        content = {"search": search, "items": entry.items, "versions": entry.versions}
    else:
        content = asdict(entry)
    text = json.dumps(content, default=datetime.isoformat, separators=(",", ":"), ensure_ascii=False)
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError as error:  # half of a surrogate pair
        raise EventLogError(f"an event contains text that is not valid Unicode ({error})") from error


def from_line(line: bytes) -> Entry:
    """The entry in a line. Fields that a newer release added are ignored.

    Raises:
        ValueError: The line is not an entry.
    """
    try:
        content = json.loads(line)
        if "search" in content:
            items = tuple((str(item_id), int(position)) for item_id, position in content["items"])
            versions = tuple(map(str, content.get("versions", ())))  # absent in lines of older releases
            if versions and len(versions) != len(items):
                raise ValueError(f"{len(versions)} model versions for {len(items)} items")
            return Shown(_record(SearchRecord, content["search"]), items, versions)
        clicks = tuple(_record(Click, click) for click in content["clicks"])
        return Clicked(clicks, content["ticket"], content["variant"], content["model_version"])
    except (TypeError, KeyError) as error:
        raise ValueError(f"not an event: {type(error).__name__} {error}") from error


def _record(kind: type[T], values: Mapping[str, Any]) -> T:
    known = {field.name: values[field.name] for field in fields(kind) if field.name in values}
    return kind(**known | {"ts": datetime.fromisoformat(values["ts"])})
