"""The history of tests: what happened to each, when, and who did it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from immr.storage.json_lines import JsonLines

Happening = Literal[
    "started", "ramped", "ended", "stopped", "promoted", "kept", "rolled back", "undone", "restored"
]
"""`ended`: one of several challengers has left the test. `kept`: the champion stays. `undone`: the promoted
challenger was rolled back later, by hand. `restored`: that rollback was rolled back, so it is champion again."""
ENDS = ("stopped", "promoted", "kept", "rolled back")
"""What a test ends with."""
_LATER: dict[Happening, str] = {"undone": ", undone later", "restored": ", undone, then restored"}


@dataclass(frozen=True, slots=True)
class TestEvent:
    """One thing that happened to a test."""

    __test__ = False  # not a test of pytest

    ts: datetime
    test: str
    what: Happening
    by: str  # a user's name, or "a service"
    champion: str
    challenger: str  # the version that this is about, or those of all challengers: "immr-2, immr-3"
    share: float  # each challenger's, from then on
    reason: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PastTest:
    """A test from its start to its end; `outcome` is "running" until it ends."""

    name: str
    champion: str
    challenger: str  # of several: "immr-2, immr-3"
    shares: tuple[float, ...]
    started: datetime
    started_by: str
    ended: datetime | None
    ended_by: str
    outcome: str
    reason: str
    numbers: Mapping[str, float]
    events: tuple[TestEvent, ...]
    winner: str = ""  # the promoted version
    undone: bool = False  # whether its promotion was rolled back, and not restored since

    def to_json(self) -> dict[str, Any]:
        """Plain values, apart from times."""
        return asdict(self)


def append(path: Path, event: TestEvent) -> None:
    """Add an event; it is on disk when this returns."""
    JsonLines(path).append(to_row(event))


def add_missing(path: Path, events: Sequence[TestEvent]) -> None:
    """Add those of these events that are not there yet, by time, test, challenger and what happened."""
    there = {_key(from_row(row)) for row in JsonLines(path).read()}
    for event in events:
        if _key(event) not in there:
            append(path, event)


def has_all(path: Path, events: Sequence[TestEvent]) -> bool:
    """Whether all of these events are there."""
    there = {_key(from_row(row)) for row in JsonLines(path).read()}
    return all(_key(event) in there for event in events)


def read(path: Path) -> list[PastTest]:
    """All tests, newest first."""
    events: dict[str, list[TestEvent]] = {}
    for row in JsonLines(path).read():
        event = from_row(row)
        events.setdefault(event.test, []).append(event)
    return [_test(found) for found in reversed(events.values())]


def to_row(event: TestEvent) -> dict[str, Any]:
    """Plain values for JSON."""
    return asdict(event) | {"ts": event.ts.isoformat()}


def from_row(row: Mapping[str, Any]) -> TestEvent:
    """The event that `to_row` wrote."""
    return TestEvent(**{**row, "ts": datetime.fromisoformat(row["ts"])})


def _key(event: TestEvent) -> tuple[datetime, str, str, str]:
    return (event.ts, event.test, event.challenger, event.what)


def _test(events: Sequence[TestEvent]) -> PastTest:
    first = events[0]
    # a verb that was interrupted is carried out again, and then noted twice
    end = next((event for event in events if event.what in ENDS), None)
    since = next((event.what for event in reversed(events) if event.what in _LATER), None)
    return PastTest(
        name=first.test,
        champion=first.champion,
        challenger=first.challenger,
        shares=tuple(event.share for event in events if event.what in ("started", "ramped")),
        started=first.ts,
        started_by=first.by,
        ended=end.ts if end else None,
        ended_by=end.by if end else "",
        outcome=(end.what + (_LATER[since] if since else "")) if end else "running",
        reason=end.reason if end else "",
        numbers=end.numbers if end else {},
        events=tuple(events),
        winner=end.challenger if end and end.what == "promoted" else "",
        undone=since == "undone",
    )
