import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq

from immr.storage.database import database, quoted


def test_it_spills_to_a_folder_that_is_deleted() -> None:
    with database() as base:
        [(folder,)] = base.execute("SELECT current_setting('temp_directory')").fetchall()
        assert Path(folder).is_dir()
        base.execute("SET memory_limit = '30MB'")
        [(count,)] = base.execute(
            "SELECT count(*) FROM (SELECT range % 1_000_000 AS id FROM range(2_000_000) GROUP BY id ORDER BY id)"
        ).fetchall()
    assert count == 1_000_000
    assert not Path(folder).exists()


def test_a_path_with_quotes_can_be_written(tmp_path: Path) -> None:
    file = tmp_path / "it's.parquet"
    with database() as base:
        base.execute(f"COPY (SELECT 1 AS one) TO {quoted(file)} (FORMAT parquet)")
    assert pq.read_table(file).to_pylist() == [{"one": 1}]


def test_its_memory_is_limited_by_its_threads() -> None:
    with database() as base:
        [(limit, threads)] = base.execute(
            "SELECT parse_formatted_bytes(current_setting('memory_limit')), current_setting('threads')"
        ).fetchall()
    assert 0 < limit <= threads * 2**30


def test_a_time_without_a_zone_is_in_utc_in_any_zone_of_the_machine() -> None:
    """A warehouse's export may lack the zone; the readout of its folder must not depend on who reads it."""
    read = (
        "from immr.storage.database import database\n"
        "with database() as base:\n"
        "    print(*base.execute(\"SELECT epoch('2026-01-01 00:00'::TIMESTAMP::TIMESTAMPTZ)::BIGINT\").fetchone())"
    )
    in_los_angeles = {**os.environ, "TZ": "America/Los_Angeles"}
    ran = subprocess.run(
        [sys.executable, "-c", read], env=in_los_angeles, capture_output=True, text=True, check=True
    )
    assert int(ran.stdout) == datetime(2026, 1, 1, tzinfo=UTC).timestamp()


def test_the_sources_open_no_database_that_spills_into_the_working_folder() -> None:
    """Without a temporary folder, DuckDB writes to `.tmp` where the process runs, which a pod may not."""
    sources = Path(__file__).parents[2] / "src"
    bare = [str(path) for path in sources.rglob("*.py") if "duckdb.connect()" in path.read_text()]
    assert not bare
