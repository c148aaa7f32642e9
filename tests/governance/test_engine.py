from contextlib import closing
from pathlib import Path

import pytest

from immr.errors import SettingsError
from immr.governance.duckdb_engine import DuckDBEngine
from immr.governance.engine import connect


def test_duckdb_takes_options_and_spills_where_it_is_told(tmp_path: Path) -> None:
    url = f"duckdb://?threads=1&memory_limit=200MB&temp_directory={tmp_path}"
    with closing(connect(url)) as engine:
        assert isinstance(engine, DuckDBEngine)
        assert engine.setting("threads") == 1
        assert engine.setting("memory_limit") == "190.7 MiB"
        assert Path(engine.setting("temp_directory")).parent == engine.scratch == tmp_path
    assert not list(tmp_path.iterdir())


def test_duckdb_leaves_memory_to_others(tmp_path: Path) -> None:
    with closing(connect("duckdb://")) as engine:
        assert isinstance(engine, DuckDBEngine)
        number, unit = engine.setting("memory_limit").split()
        assert unit in ("MiB", "GiB") and float(number) * (1 if unit == "GiB" else 1 / 1024) < 6.6


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("flink://cluster", "no governance engine understands 'flink://cluster'"),
        ("duckdb:///a/file", "set IMMR_ENGINE_URL to duckdb://"),
        ("duckdb://?speed=9", "unknown options speed"),
        ("duckdb://?threads=many", "does not take the options"),
        ("duckdb://?temp_directory=/no/such/folder", "name a folder that can"),
        ("spark://cluster:7077", r"add one, as in spark://cluster:7077\?scratch="),
        ("local[2]?cores=3", "unknown options cores"),
    ],
)
def test_other_urls_say_what_to_do(url: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        connect(url)
