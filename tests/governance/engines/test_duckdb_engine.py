from contextlib import closing
from pathlib import Path

import pytest

from immr.governance.engines.duckdb_engine import DuckDBEngine
from immr.governance.engines.engine import connect
from immr.machine import capacity


def test_duckdb_takes_options_and_a_spill_folder(tmp_path: Path) -> None:
    url = f"duckdb://?threads=1&memory_limit=200MB&temp_directory={tmp_path}"
    with closing(connect(url)) as engine:
        assert isinstance(engine, DuckDBEngine)
        assert engine.setting("threads") == 1
        assert engine.setting("memory_limit") == "190.7 MiB"
        assert Path(engine.setting("temp_directory")).parent == engine.scratch == tmp_path
    assert not list(tmp_path.iterdir())


def test_duckdb_takes_half_of_a_small_container(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step's pod has 4 GiB on a node with many more."""
    monkeypatch.setattr(capacity, "memory", lambda: 4 * capacity.GIB)
    with closing(connect("duckdb://")) as engine:
        assert isinstance(engine, DuckDBEngine)
        assert engine.setting("memory_limit") == "1.9 GiB"


def test_duckdb_leaves_memory_to_others(tmp_path: Path) -> None:
    with closing(connect("duckdb://")) as engine:
        assert isinstance(engine, DuckDBEngine)
        number, unit = engine.setting("memory_limit").split()
        assert unit in ("MiB", "GiB") and float(number) * (1 if unit == "GiB" else 1 / 1024) < 6.6
