"""Events in a warehouse: on a DuckDB file; tests/events/test_sink.py has a PostgreSQL server."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from immr.errors import ContractError
from immr.readout.readout import readout
from immr.readout.relations import Parquet
from immr.readout.warehouse import copy_events
from tests.readout.even_experiment import NOON
from tests.readout.test_segments import TEST, shop


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Times without a zone, and contexts as JSON: as others may have loaded them."""
    impressions, searches = shop(users=400)
    with duckdb.connect(tmp_path / "shop.duckdb") as base:
        base.execute("SET TimeZone = 'UTC'")
        for name, table in (("impressions", impressions), ("searches", searches)):
            base.register("events", table)
            base.execute(f"CREATE TABLE {name} AS SELECT * REPLACE (ts::TIMESTAMP AS ts) FROM events")
            base.unregister("events")
        base.execute("ALTER TABLE searches ALTER context TYPE JSON USING nullif(context, '')::JSON")
    return f"duckdb://{tmp_path}/shop.duckdb"


def test_the_readout_is_that_of_the_events(url: str, tmp_path: Path) -> None:
    impressions, searches = shop(users=400)
    copy_events(url, None, tmp_path)
    copied = [Parquet(str(tmp_path / f"{name}.parquet")) for name in ("impressions", "searches")]
    assert readout(copied[0], TEST, copied[1]).to_json() == readout(impressions, TEST, searches).to_json()
    contexts = pq.read_table(tmp_path / "searches.parquet")["context"].to_pylist()
    assert contexts == [each or None for each in searches["context"].to_pylist()]


def test_only_the_events_of_the_time_are_copied(url: str, tmp_path: Path) -> None:
    _, searches = shop(users=400)
    since = NOON + timedelta(days=1)
    copy_events(url, since, tmp_path)
    copied = pq.read_table(tmp_path / "searches.parquet")
    assert copied.num_rows == sum(ts >= since for ts in searches["ts"].to_pylist())
    with pytest.raises(ContractError, match="table impressions has no rows since"):
        copy_events(url, since + timedelta(days=9), tmp_path)


def test_a_table_without_times_is_refused(tmp_path: Path) -> None:
    with duckdb.connect(tmp_path / "other.duckdb") as base:
        base.execute("CREATE TABLE impressions AS SELECT 1 AS query_id")
    with pytest.raises(ContractError, match="has no column ts: load what `immr events sink` writes"):
        copy_events(f"duckdb://{tmp_path}/other.duckdb", None, tmp_path)
