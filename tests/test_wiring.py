"""Parts: built once, on first use; closed together; replaceable by fakes."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from immr.errors import EventLogError, SettingsError
from immr.settings import Settings
from immr.types import Impression
from immr.wiring import Parts, connect


@pytest.mark.parametrize(
    ("part", "field"),
    [
        ("index", "index_url"),
        ("features", "features_url"),
        ("events", "events_url"),
        ("registry", "tracking_url"),
        ("launcher", "launch_url"),
        ("pixels_url", "pixels_url"),
        ("deployer", "deploy_url"),
    ],
)
def test_a_url_without_an_adapter_names_its_variable(tmp_path: Path, part: str, field: str) -> None:
    parts = connect(Settings(home=tmp_path, **{field: "gopher://somewhere"}))
    with pytest.raises(SettingsError, match=f"IMMR_{field.upper()} begins with 'gopher://'"):
        getattr(parts, part)


def test_connecting_opens_nothing(tmp_path: Path) -> None:
    with connect(Settings(home=tmp_path / "home")):
        pass
    assert not (tmp_path / "home").exists()


def test_the_path_of_the_event_log_has_one_leading_slash(tmp_path: Path) -> None:
    """Messages name it."""
    (tmp_path / "events").mkdir()
    (tmp_path / "events" / "events.db").write_text("no database " * 100)
    with (
        connect(Settings(home=tmp_path)) as parts,
        pytest.raises(EventLogError, match=f"log {tmp_path}/events"),
    ):
        parts.events.record_impressions([])


def test_a_part_is_built_once(tmp_path: Path) -> None:
    with connect(Settings(home=tmp_path)) as parts:
        assert parts.registry is parts.registry
        assert parts.events is parts.events


def test_leaving_the_block_closes_what_was_opened(tmp_path: Path) -> None:
    with connect(Settings(home=tmp_path)) as parts:
        events = parts.events
        events.record_impressions([])
    with pytest.raises(Exception, match="closed"):
        events.record_impressions([Impression("q", "i", 1, "u", "champion", "immr-1", datetime.now(UTC))])


class Closable:
    def __init__(self, fails: bool = False) -> None:
        self.closed, self.fails = False, fails

    def close(self) -> None:
        self.closed = True
        if self.fails:
            raise OSError("the disk is full")


def test_a_part_that_fails_to_close_does_not_keep_the_others_open(tmp_path: Path) -> None:
    registry, index, events = Closable(), Closable(fails=True), Closable()
    with (
        pytest.raises(OSError, match="disk"),
        Parts.of(Settings(home=tmp_path), registry=registry, index=index, events=events),
    ):
        pass
    assert registry.closed and index.closed and events.closed


def test_a_misspelled_fake_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="unknown parts: event_log; known parts"):
        Parts.of(Settings(home=tmp_path), event_log=Closable())
