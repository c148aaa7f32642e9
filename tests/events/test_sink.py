"""The sink: Parquet by day with the totals of the log, and the readout that the log itself gives."""

from __future__ import annotations

import json
import sqlite3
import weakref
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from immr.cli import app
from immr.errors import EventLogError
from immr.events.event_log import CLICKS_SCHEMA, JOINED_SCHEMA, SCHEMAS, SEARCHES_SCHEMA, EventLog, EventTable
from immr.events.sink import on_disk, sink
from immr.events.sqlite.log import SqliteEventLog
from immr.experiment import changes
from immr.experiment.file import save
from immr.loop.watch import read_out
from immr.readout.event_views import Parquet
from immr.settings import Settings
from immr.types import Click, Impression, SearchRecord
from immr.wiring import connect
from tests.support import postgres_server
from tests.support.two_versions import shop

SUNK = ("searches", "clicks", "impressions")
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A home with a test whose searches lie around midnight."""
    settings = Settings(home=tmp_path / "home")
    champion, challenger = ("immr-1", "http://127.0.0.1:1"), ("immr-2", "http://127.0.0.1:2")
    running = changes.begin(champion, {"challenger": challenger}, 0.5, NOON.replace(hour=23, minute=55))
    save(running, settings.experiment_file)
    shop(settings, running, {"champion": 5, "challenger": 7}, users=700)
    return settings


def rows(folder: Path, table: str) -> int:
    [(count,)] = duckdb.sql(f"SELECT count(*) FROM '{folder}/{table}/*/*.parquet'").fetchall()
    return int(count)


def test_totals_are_those_of_the_log(settings: Settings, tmp_path: Path) -> None:
    log = connect(settings).events
    for _ in range(2):  # again writes the same
        sunk = sink(log, tmp_path / "out")
        assert (sunk.days, sunk.searches, sunk.impressions) == (2, 700, 7000)
    for table, expected in (
        ("searches", log.searches()),
        ("impressions", log.joined()),
        ("clicks", log.clicks()),
    ):
        assert rows(tmp_path / "out", table) == expected.num_rows > 0
        days = sorted(path.name for path in (tmp_path / "out" / table).iterdir())
        assert days == ["day=2026-05-01", "day=2026-05-02"]
    for table, schema in (
        ("searches", SEARCHES_SCHEMA),
        ("impressions", JOINED_SCHEMA),
        ("clicks", CLICKS_SCHEMA),
    ):
        file = tmp_path / "out" / table / "day=2026-05-01" / "data.parquet"
        assert pq.read_schema(file).remove_metadata().names == schema.names


class BusyLog(SqliteEventLog):
    """A search with a clicked impression arrives before each read."""

    reads = 0

    def batches(
        self, table: EventTable, since: datetime | None = None
    ) -> Generator[pa.RecordBatch, None, None]:
        self.reads += 1
        query = f"q{self.reads}"
        search = SearchRecord(query, "ann", NOON, "champion", "immr-1", 9.0, 1)
        shown = Impression(query, "item", 1, "ann", "champion", "immr-1", NOON)
        self.record_all([(search, [shown])], [[Click(f"c-{query}", "click", query, "item", NOON)]])
        yield from super().batches(table, since)


def test_every_search_has_its_impressions_while_events_arrive(tmp_path: Path) -> None:
    """The readout of a busy shop counted its newest searches as searches without results."""
    log = BusyLog(tmp_path / "events.db")
    with on_disk(log, None, "impressions", "searches") as files:
        asked, shown = (set(ids(files[table])) for table in ("searches", "impressions"))
    assert asked and asked <= shown
    sink(log, tmp_path / "out")
    asked, clicked, shown = (set(ids(Parquet(f"{tmp_path}/out/{table}/*/*.parquet"))) for table in SUNK)
    assert asked <= clicked <= shown


def ids(events: Parquet) -> list[str]:
    return [query for (query,) in duckdb.sql(f"SELECT query_id FROM '{events.path}'").fetchall()]


def test_a_context_is_json_or_null(settings: Settings, tmp_path: Path) -> None:
    parts = connect(settings)
    parts.events.record_search(
        SearchRecord("q-se", "ann", NOON, "champion", "immr-1", 9.0, 0, context='{"country": "SE"}'), []
    )
    sink(parts.events, tmp_path / "out")
    found = duckdb.sql(
        f"SELECT context ->> 'country', count(*) FROM '{tmp_path}/out/searches/*/*.parquet' GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    assert found == [("SE", 1), (None, 700)]


def test_the_readout_of_the_folder_is_that_of_the_log(settings: Settings, tmp_path: Path) -> None:
    parts = connect(settings)
    sink(parts.events, tmp_path / "out")
    by_log, by_folder = read_out(parts, by=["day"]), read_out(parts, tmp_path / "out", by=["day"])
    assert by_folder.readout.to_json() == by_log.readout.to_json()
    assert by_folder.segments == by_log.segments
    assert by_folder.decision == by_log.decision


def fill_postgresql(url: str, tables: Mapping[str, pa.Table]) -> None:
    import ibis

    connection = ibis.connect(url)
    for name, table in tables.items():
        connection.create_table(name, table)
    connection.disconnect()


def fill_duckdb(url: str, tables: Mapping[str, pa.Table]) -> None:
    with duckdb.connect(url.removeprefix("duckdb://")) as connection:
        for name, table in tables.items():
            connection.register("arrow", table)
            connection.execute(f"CREATE TABLE {name} AS FROM arrow")


def fill_sqlite(url: str, tables: Mapping[str, pa.Table]) -> None:
    with closing(sqlite3.connect(url.removeprefix("sqlite://"))) as connection:
        for name, table in tables.items():
            table.to_pandas().to_sql(name, connection)


@pytest.mark.parametrize("fill", [fill_postgresql, fill_duckdb, fill_sqlite])
def test_the_readout_of_a_warehouse_is_that_of_the_log(
    settings: Settings, tmp_path: Path, fill: Callable[[str, Mapping[str, pa.Table]], None]
) -> None:
    sink(connect(settings).events, tmp_path / "out")
    run = CliRunner(env={"IMMR_HOME": str(settings.home)}).invoke
    readout = ["experiment", "readout", "--by", "day", "--json"]
    with ExitStack() as running:
        kind = fill.__name__.removeprefix("fill_")
        url = f"{kind}://{tmp_path}/shop.db"
        if kind == "postgresql":
            url = running.enter_context(postgres_server.serving()).url
        fill(url, {name: pq.read_table(tmp_path / "out" / name) for name in ("impressions", "searches")})
        of_warehouse = run(app, [*readout, "--from", url])
    assert of_warehouse.exit_code == 0, of_warehouse.output
    assert json.loads(of_warehouse.stdout) == json.loads(run(app, readout).stdout)


def test_a_daily_run_rewrites_its_days_and_keeps_the_others(tmp_path: Path) -> None:
    log = SqliteEventLog(tmp_path / "events.db")
    for days in range(3):
        log.record_clicks([Click(f"c{days}", "click", "q", f"i{days}", NOON + timedelta(days=days))])
    sink(log, tmp_path / "out")
    first = tmp_path / "out" / "clicks" / "day=2026-05-01" / "data.parquet"
    before = first.stat().st_mtime_ns
    log.record_clicks([Click("late", "order", "q", "i1", NOON + timedelta(days=1, hours=1))])
    sunk = sink(log, tmp_path / "out", since=NOON + timedelta(days=1))
    assert (sunk.days, sunk.clicks) == (2, 3)
    assert first.stat().st_mtime_ns == before
    assert rows(tmp_path / "out", "clicks") == 4


class LongLog:
    """A log of many batches over three days, which notes how many of them exist at once."""

    def __init__(self, batches: int) -> None:
        self.count, self.alive, self.most = batches, 0, 0

    def batches(self, table: EventTable, since: datetime | None = None) -> Iterator[pa.RecordBatch]:
        for number in range(self.count):
            ts = NOON + timedelta(days=3) * number / self.count
            rows = [dict.fromkeys(SCHEMAS[table].names) | {"query_id": f"q{number}", "ts": ts}] * 3
            batch = pa.RecordBatch.from_pylist(rows, schema=SCHEMAS[table])
            self.alive += 1
            self.most = max(self.most, self.alive)
            weakref.finalize(batch, self._gone)
            yield batch
            del batch

    def _gone(self) -> None:
        self.alive -= 1


def test_a_long_log_is_never_in_memory(tmp_path: Path) -> None:
    log = LongLog(100)
    sunk = sink(cast("EventLog", log), tmp_path / "out")
    assert (sunk.days, sunk.searches, sunk.impressions, sunk.clicks) == (4, 300, 300, 300)
    assert [rows(tmp_path / "out", table) for table in ("searches", "impressions", "clicks")] == [300] * 3
    with on_disk(cast("EventLog", log), None, "impressions", "queries") as files:
        paths = [Path(files[table].path) for table in ("impressions", "queries")]
        assert [pq.read_metadata(path).num_rows for path in paths] == [300, 300]
        assert pq.read_table(paths[0])["ts"].to_pylist() == sorted(pq.read_table(paths[0])["ts"].to_pylist())
    assert not any(path.exists() for path in paths)
    assert log.most <= 2


def test_a_log_that_fails_in_the_middle_leaves_no_file_of_that_day(tmp_path: Path) -> None:
    class Failing(LongLog):
        def batches(self, table: EventTable, since: datetime | None = None) -> Iterator[pa.RecordBatch]:
            yield from super().batches(table, since)
            raise EventLogError("gone")

    with pytest.raises(EventLogError, match="gone"):
        sink(cast("EventLog", Failing(6)), tmp_path / "out")
    assert rows(tmp_path / "out", "searches") == 3 * 5  # of the days before
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 3


def test_an_empty_log_writes_nothing(tmp_path: Path) -> None:
    sunk = sink(SqliteEventLog(tmp_path / "events.db"), tmp_path / "out")
    assert (sunk.days, sunk.searches, sunk.impressions, sunk.clicks) == (0, 0, 0, 0)
    assert not (tmp_path / "out").exists()


def test_on_the_command_line(settings: Settings, tmp_path: Path) -> None:
    run = CliRunner(env={"IMMR_HOME": str(settings.home)}).invoke
    out = str(tmp_path / "out")
    assert json.loads(run(app, ["events", "sink", "--out", out, "--json"]).stdout)["searches"] == 700
    wrong = run(app, ["experiment", "readout", "--from", f"{out}/searches"])
    assert "there are no impressions in" in str(wrong.exception) and "events sink" in str(wrong.exception)
    refused = run(app, ["events", "sink", "--out", out, "--since", "yesterday"], env={"COLUMNS": "200"})
    assert refused.exit_code == 2 and "not a day or time such as 2026-05-01" in refused.output
    csv = run(app, ["experiment", "readout", "--from", out, "--by", "day", "--csv"]).stdout.splitlines()
    assert csv[0].startswith("experiment,dimension,segment") and any(
        ",day,2026-05-02," in line for line in csv
    )
    table = tmp_path / "readout.parquet"
    assert run(app, ["experiment", "readout", "--from", out, "--parquet", str(table)]).exit_code == 0
    assert pq.read_table(table).num_rows == len([line for line in csv if ",day," not in line]) - 1
