import multiprocessing
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock

import duckdb
import pyarrow.parquet as pq
import pytest

from immr.storage import database as module
from immr.storage.database import database, own_database, quoted


def test_databases_of_one_process_are_apart() -> None:
    with database() as one, database() as other:
        for base, number in ((one, 1), (other, 2)):
            base.execute(f"CREATE TABLE numbers AS SELECT {number} AS number")
            base.execute("CREATE VIEW shown AS FROM numbers")
        assert one.execute("FROM shown").fetchall() == [(1,)]
        assert other.execute("FROM shown").fetchall() == [(2,)]
    with database() as base, pytest.raises(duckdb.CatalogException):
        base.execute("FROM numbers")


def test_a_database_goes_with_its_block_even_after_an_error() -> None:
    with pytest.raises(duckdb.BinderException), database() as base:
        base.execute("CREATE TABLE numbers AS FROM range(2_000_000)")
        base.execute("SELECT nothing FROM numbers")
    with database() as base:
        [(names,)] = base.execute("SELECT count(*) FROM duckdb_databases() WHERE NOT internal").fetchall()
        [(used,)] = base.execute(
            "SELECT sum(memory_usage_bytes) FROM duckdb_memory() WHERE tag = 'IN_MEMORY_TABLE'"
        ).fetchall()
    assert (names, used) == (2, 0)  # this one, and the first of the instance


def test_a_forked_process_has_its_own() -> None:
    with database() as base:
        base.execute("SELECT 1")
        fork = multiprocessing.get_context("fork").Process(target=_sum_up)
        fork.start()
        fork.join(60)
    assert fork.exitcode == 0


def _sum_up() -> None:
    with database() as base:
        assert base.execute("SELECT sum(range) FROM range(1_000_000)").fetchall() == [(499_999_500_000,)]


def test_an_instance_that_broke_is_replaced() -> None:
    attached, broken = module._attached, [duckdb.FatalException("the database has been invalidated")]

    def attach(instance: duckdb.DuckDBPyConnection, name: str) -> duckdb.DuckDBPyConnection:
        if broken:
            raise broken.pop()
        return attached(instance, name)

    with database() as base:
        base.execute("SELECT 1")
    with mock.patch.object(module, "_attached", attach), database() as base:
        assert base.execute("SELECT 1").fetchall() == [(1,)]


def test_it_spills_to_a_folder_that_is_deleted() -> None:
    with own_database() as base:
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
