"""Payloads in memory are those of the engine, whatever changes meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from immr.index.bm25 import of_query
from immr.index.engines.client import ClientEngine, open_local
from immr.index.engines.recent_payloads import RecentPayloads
from immr.index.vector_index import EVERYTHING

IDS = list(range(4))
ROWS_ND = np.eye(4, dtype=np.float32)


class Recorded:
    """An engine that records which payloads were read, and calls `meanwhile` after each reading."""

    def __init__(self, engine: ClientEngine) -> None:
        self._engine = engine
        self.read: list[int] = []
        self.meanwhile = lambda: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def payloads(self, ids: Sequence[int]) -> dict[int, Mapping[str, Any]]:
        self.read += ids
        found = self._engine.payloads(ids)
        self.meanwhile()
        return found


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Recorded]:
    local = open_local(tmp_path / "points", lambda: None)
    local.create(4, {})
    local.put(IDS, list(ROWS_ND[:, None]), [payload(f"old {number}") for number in range(4)])
    yield Recorded(local)
    local.close()


def payload(title: str) -> dict[str, str]:
    return {"title": title, "category": "Fruit"}


def titles(recent: RecentPayloads, ids: Sequence[int] = IDS) -> list[str]:
    return [payload["title"] for payload in recent.payloads(ids).values()]


def test_a_payload_is_read_once(engine: Recorded) -> None:
    recent = RecentPayloads(engine)
    [[first]] = recent.nearest(ROWS_ND[2], [EVERYTHING], 1, 10)
    assert (first.id, first.payload["title"]) == (IDS[2], "old 2")
    [[first]] = recent.nearest(ROWS_ND[2], [EVERYTHING], 1, 10)
    assert first.payload["title"] == "old 2"
    assert titles(recent, IDS[1:3]) == ["old 2", "old 1"]
    assert engine.read == [IDS[2], IDS[1]]


def test_no_payload_is_read_for_ids_alone(engine: Recorded) -> None:
    recent = RecentPayloads(engine)
    [found] = recent.nearest(ROWS_ND[0], [EVERYTHING], 4, 10, with_payload=False)
    [matching] = recent.matching(of_query("2"), [EVERYTHING], 1, 1)
    assert len(found) == 4 and [point.id for point in matching] == [IDS[2]]
    assert engine.read == []


def test_changed_and_removed_points_are_read_again(engine: Recorded) -> None:
    recent = RecentPayloads(engine)
    assert len(titles(recent)) == 4
    recent.put(IDS[:1], list(ROWS_ND[:1, None]), [payload("new 0")])
    recent.remove(IDS[1:2])
    assert sorted(titles(recent)) == ["new 0", "old 2", "old 3"]


def test_what_was_read_before_a_change_is_not_kept(engine: Recorded) -> None:
    recent = RecentPayloads(engine)

    def change() -> None:
        engine.meanwhile = lambda: None
        recent.put(IDS[:1], list(ROWS_ND[:1, None]), [payload("new 0")])

    engine.meanwhile = change
    assert titles(recent, IDS[:1]) == ["old 0"]
    assert titles(recent, IDS[:1]) == ["new 0"]


def test_a_point_removed_between_finding_and_reading_is_left_out(engine: Recorded) -> None:
    recent = RecentPayloads(engine)
    [found] = recent.nearest(ROWS_ND[0], [EVERYTHING], 4, 10, with_payload=False)
    recent.remove(IDS[:1])
    assert set(recent.payloads([point.id for point in found])) == set(IDS[1:])


def test_memory_is_bounded_and_what_is_left_out_is_read_again(engine: Recorded) -> None:
    recent = RecentPayloads(engine, most=2)
    for _ in range(2):
        assert [titles(recent, [id]) for id in IDS] == [[f"old {number}"] for number in range(4)]
    assert engine.read == [*IDS, *IDS]
