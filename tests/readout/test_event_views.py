"""The readout of Parquet files, and of a warehouse, equals that of the tables written to them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from immr.errors import ContractError, ExperimentError
from immr.loop import watch as watching
from immr.readout.event_views import Parquet, copy_events
from immr.readout.readout import readout
from immr.settings import Settings
from immr.wiring import connect
from tests.readout.even_experiment import NOON
from tests.readout.test_segments import TEST, shop
from tests.support.page_home import experiment, fill

STARTED = datetime(2024, 5, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """An experiment that began in the middle of the events, in a log and in files."""
    home = tmp_path_factory.mktemp("home")
    fill(home, ["http://a:1", "http://b:1"], 400, STARTED - timedelta(seconds=60))
    fill(home, ["http://a:1", "http://b:1"], 0, STARTED)
    settings = Settings(home=home)
    log = connect(settings).events
    (home / "exported").mkdir()
    joined = log.joined()
    pq.write_table(joined.slice(0, 1000), home / "exported" / "impressions-1.parquet")
    pq.write_table(joined.slice(1000), home / "exported" / "impressions-2.parquet")
    pq.write_table(log.searches(), home / "exported" / "searches.parquet")
    log.close()
    return settings


def test_files_and_log_give_the_same_readout(settings: Settings) -> None:
    of_log = watching.read_out(connect(settings)).readout
    of_files = watching.read_out(connect(settings), settings.home / "exported").readout
    assert of_files == of_log
    assert of_files.ctr is not None
    assert sum(side.users for side in of_files.variants) == 200


def test_without_a_start_everything_is_read(settings: Settings) -> None:
    files = Parquet(f"{settings.home}/exported/impressions-*.parquet")
    found = readout(files, experiment(["http://a:1", "http://b:1"], STARTED))
    assert sum(side.users for side in found.variants) == 400
    assert found.bots == ()


def test_missing_files_and_columns_are_named(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=r"no impressions in .* `immr events sink"):
        watching.read_out(connect(settings), tmp_path)
    (tmp_path / "impressions.parquet").write_text("no Parquet")
    with pytest.raises(ExperimentError, match="cannot be read"):
        watching.read_out(connect(settings), tmp_path)
    pq.write_table(
        pq.read_table(settings.home / "exported" / "impressions-1.parquet").drop_columns(["variant"]),
        tmp_path / "impressions.parquet",
    )
    with pytest.raises(ExperimentError, match="no column variant"):
        watching.read_out(connect(settings), tmp_path)


@pytest.fixture
def warehouse(tmp_path: Path) -> str:
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


def test_a_warehouse_gives_the_same_readout(warehouse: str, tmp_path: Path) -> None:
    impressions, searches = shop(users=400)
    copy_events(warehouse, None, tmp_path)
    copied = [Parquet(str(tmp_path / f"{name}.parquet")) for name in ("impressions", "searches")]
    assert readout(copied[0], TEST, copied[1]).to_json() == readout(impressions, TEST, searches).to_json()
    contexts = pq.read_table(tmp_path / "searches.parquet")["context"].to_pylist()
    assert contexts == [each or None for each in searches["context"].to_pylist()]


def test_only_the_events_of_the_time_are_copied(warehouse: str, tmp_path: Path) -> None:
    _, searches = shop(users=400)
    since = NOON + timedelta(days=1)
    copy_events(warehouse, since, tmp_path)
    copied = pq.read_table(tmp_path / "searches.parquet")
    assert copied.num_rows == sum(ts >= since for ts in searches["ts"].to_pylist())
    with pytest.raises(ContractError, match="table searches has no rows since"):
        copy_events(warehouse, since + timedelta(days=9), tmp_path)


def test_a_table_without_times_is_refused(tmp_path: Path) -> None:
    with duckdb.connect(tmp_path / "other.duckdb") as base:
        base.execute("CREATE TABLE searches AS SELECT 1 AS query_id")
    with pytest.raises(ContractError, match="has no column ts: load what `immr events sink` writes"):
        copy_events(f"duckdb://{tmp_path}/other.duckdb", None, tmp_path)


def test_times_as_text_are_refused(tmp_path: Path) -> None:
    with duckdb.connect(tmp_path / "other.duckdb") as base:
        base.execute("CREATE TABLE searches AS SELECT '2026-05-01' AS ts")
    with pytest.raises(ContractError, match="has string in ts: make it a timestamp"):
        copy_events(f"duckdb://{tmp_path}/other.duckdb", None, tmp_path)


def test_a_wrong_path_creates_no_database(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="does not exist"):
        copy_events(f"duckdb://{tmp_path}/typo.duckdb", None, tmp_path)
    assert not list(tmp_path.iterdir())
