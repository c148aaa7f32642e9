"""A small shard is searched by one thread, a large one by as many as there are cores."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from immr.index.engines import edge_shard
from immr.index.engines.edge import EdgeEngine
from immr.index.engines.engine import EXACT
from immr.machine import cores
from immr.types import Filters

ROWS_ND = np.eye(4, dtype=np.float32)


@pytest.fixture(params=[False, True], ids=["one picture", "several pictures"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A shard of four points."""
    with closing(EdgeEngine(tmp_path)) as engine:
        engine.create(4, {}, several_pictures=request.param)
        engine.put(range(4), [row_D[None] for row_D in ROWS_ND], 4 * [{"title": "", "category": ""}])
    return tmp_path


def threads_of(folder: Path) -> int:
    found: int = json.loads((folder / "edge_config.json").read_text())["max_search_threads"]
    return found


def test_threads_follow_the_size_of_a_shard(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "usable", lambda: 3)
    with closing(EdgeEngine(folder)):
        assert threads_of(folder) == 1
    monkeypatch.setattr(edge_shard, "_FOR_ONE_THREAD", 3)
    for _ in range(2):  # the second time it is loaded as it is
        with closing(EdgeEngine(folder)) as engine:
            assert threads_of(folder) == 3
            [found] = engine.nearest(ROWS_ND[2], [Filters()], 1, EXACT)
            assert [point.id for point in found] == [2]
            assert engine.count() == 4
