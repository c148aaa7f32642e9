"""An export of the event log and the kept photos satisfies the data contract."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from immr.cli import app
from immr.data.contract import ITEMS
from immr.data.validation.tables import admit
from immr.errors import DataError, EventLogError
from immr.events.event_log import EventLog
from immr.events.query_photos import PhotoStore
from immr.loop import watch
from immr.settings import Settings
from immr.types import Click, Impression, SearchRecord
from immr.wiring import connect

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
JPEG, PNG = b"\xff\xd8\xff photo", b"\x89PNG photo"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


@pytest.fixture
def log(settings: Settings) -> Iterator[EventLog]:
    log = connect(settings).events
    yield log
    log.close()


def record(log: EventLog, query: str, user: str = "ann", ts: datetime = NOON) -> None:
    """Show three items; the second is clicked, the third ordered."""
    shown = [Impression(query, f"item-{place}", place, user, "champion", "immr-1", ts) for place in (1, 2, 3)]
    log.record_search(SearchRecord(query, user, ts, "champion", "immr-1", 12.0, 3), shown)
    log.record_clicks(
        [
            Click(f"{query}-2", "click", query, "item-2", ts),
            Click(f"{query}-3", "order", query, "item-3", ts),
        ]
    )


def write_items(folder: Path) -> Path:
    rows = [
        {
            "item_id": f"item-{number}",
            "title": "Tea",
            "description": "",
            "category": "Drinks",
            "image": "/tea.jpg",
            "price": 2.0,
            "updated_at": NOON,
        }
        for number in (1, 2, 3)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "items.parquet"
    import pyarrow as pa

    pq.write_table(pa.Table.from_pylist(rows, schema=ITEMS.columns), path)
    return path


def test_every_row_of_an_export_is_valid(settings: Settings, log: EventLog, tmp_path: Path) -> None:
    photos = PhotoStore(settings.photos_dir)
    for number, content in enumerate((JPEG, PNG, JPEG)):
        record(log, f"q{number}", ts=NOON + timedelta(minutes=number))
        photos.keep(f"q{number}", content)
    exported = watch.export_events(connect(settings), tmp_path / "log")
    assert (exported.queries_in, exported.queries, exported.impressions) == (3, 3, 9)
    write_items(tmp_path / "log")
    admitted = admit(tmp_path / "log", tmp_path / "admitted")
    assert {name: (one.valid, dict(one.rejected)) for name, one in admitted.tables.items()} == {
        "items": (3, {}),
        "queries": (3, {}),
        "impressions": (9, {}),
    }
    rows = pq.read_table(admitted.path("impressions")).to_pylist()
    assert [(row["clicked"], row["ordered"]) for row in rows[:3]] == [
        (False, False),
        (True, False),
        (True, True),
    ]
    images = pq.read_table(admitted.path("queries"))["image"].to_pylist()
    assert images[0] == images[2] != images[1]
    assert [Path(image).read_bytes() for image in images[:2]] == [JPEG, PNG]


def test_queries_of_bots_or_without_a_photo_are_left_out_and_counted(
    settings: Settings, log: EventLog, tmp_path: Path
) -> None:
    photos = PhotoStore(settings.photos_dir)
    for number in range(40):
        record(log, f"bot-{number}", user="crawler", ts=NOON + timedelta(milliseconds=number))
        photos.keep(f"bot-{number}", JPEG)
    record(log, "with")
    record(log, "without")
    photos.keep("with", JPEG)
    exported = watch.export_events(connect(settings), tmp_path / "log")
    assert (exported.queries_in, exported.queries, exported.without_photo, exported.of_bots) == (42, 1, 1, 40)
    assert set(pq.read_table(tmp_path / "log" / "impressions.parquet")["query_id"].to_pylist()) == {"with"}


def test_since_limits_the_export_to_newer_queries(settings: Settings, log: EventLog, tmp_path: Path) -> None:
    photos = PhotoStore(settings.photos_dir)
    for query, ts in (("old", NOON), ("new", NOON + timedelta(days=1))):
        record(log, query, ts=ts)
        photos.keep(query, JPEG)
    watch.export_events(connect(settings), tmp_path / "log", since=datetime(2024, 5, 2))
    assert pq.read_table(tmp_path / "log" / "queries.parquet")["query_id"].to_pylist() == ["new"]


def test_an_export_without_photos_names_the_setting_to_keep_them(
    settings: Settings, log: EventLog, tmp_path: Path
) -> None:
    record(log, "q")
    with pytest.raises(EventLogError, match="IMMR_KEEP_PHOTOS=1"):
        watch.export_events(connect(settings), tmp_path / "log")
    assert not (tmp_path / "log").exists()


def test_an_empty_log_is_not_blamed_on_photos(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(EventLogError, match="no search was recorded"):
        watch.export_events(connect(settings), tmp_path / "log")


def test_other_files_are_not_overwritten(settings: Settings, log: EventLog, tmp_path: Path) -> None:
    record(log, "q")
    PhotoStore(settings.photos_dir).keep("q", JPEG)
    (tmp_path / "thesis.tex").write_text("all my work")
    with pytest.raises(DataError, match="choose another folder"):
        watch.export_events(connect(settings), tmp_path)
    assert (tmp_path / "thesis.tex").is_file()


def test_the_command_line_exports_and_replaces(settings: Settings, log: EventLog, tmp_path: Path) -> None:
    run = CliRunner(env={"IMMR_HOME": str(settings.home)}).invoke
    record(log, "q")
    PhotoStore(settings.photos_dir).keep("q", JPEG)
    items = write_items(tmp_path / "shop")
    for _ in range(2):  # the second export replaces the first
        done = run(app, ["events", "export", "--out", str(tmp_path / "log"), "--items", str(items)])
        assert done.exit_code == 0, done.output
    assert "1 of 1 query with 3 impressions" in " ".join(done.output.split())
    assert admit(tmp_path / "log", tmp_path / "admitted").tables["queries"].valid == 1


def test_an_export_with_a_missing_catalogue_writes_nothing(
    settings: Settings, log: EventLog, tmp_path: Path
) -> None:
    record(log, "q")
    PhotoStore(settings.photos_dir).keep("q", JPEG)
    command = ["events", "export", "--out", str(tmp_path / "log"), "--items", str(tmp_path / "items.csv")]
    done = CliRunner(env={"IMMR_HOME": str(settings.home)}).invoke(app, command)
    assert done.exit_code == 1
    assert f"there is no file {tmp_path}/items.csv" in str(done.exception)
    assert not (tmp_path / "log").exists()
