"""Kept photos: stored once, found by query, deleted in time."""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from immr.events import query_photos as photo_store
from immr.events.query_photos import PhotoStore
from tests.support.kept_photos import by_query

JPEG, PNG = b"\xff\xd8\xff photo", b"\x89PNG photo"
DAY = timedelta(days=1)


def age_index(folder: Path, query_id: str, by: timedelta) -> None:
    """Make a query's line in the index older."""
    lines = [json.loads(line) for line in (folder / "queries.jsonl").read_text().splitlines()]
    for line in lines:
        if line["query_id"] == query_id:
            line["ts"] -= by.total_seconds()
    (folder / "queries.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def age_file(photo: Path, by: timedelta) -> None:
    then = photo.stat().st_mtime - by.total_seconds()
    os.utime(photo, (then, then))


def test_identical_photos_share_a_file(tmp_path: Path) -> None:
    photos = PhotoStore(tmp_path)
    first, second, other = photos.keep("q1", JPEG), photos.keep("q2", JPEG), photos.keep("q3", PNG)
    assert first == second != other
    assert (first.suffix, other.suffix) == (".jpg", ".png")
    assert by_query(photos) == {"q1": first, "q2": first, "q3": other}


def test_of_all_queries_the_last_photo_that_is_there_is_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(photo_store, "_LINES_PER_BATCH", 2)
    photos = PhotoStore(tmp_path / "it's" / "photos")
    assert by_query(photos) == {}
    first, gone = photos.keep("q1", JPEG), photos.keep("q2", PNG)
    assert photos.keep("q3", JPEG) == first
    last = photos.keep("q1", b"GIF8 photo")
    gone.unlink()
    assert by_query(photos) == {"q1": last, "q3": first}
    with photos.on_disk() as file:
        assert file.is_file()
    assert not file.exists()


def test_forget_deletes_old_photos_and_their_index_lines(tmp_path: Path) -> None:
    photos = PhotoStore(tmp_path)
    old, new = photos.keep("old", JPEG), photos.keep("new", PNG)
    age_file(old, 3 * DAY)
    age_index(tmp_path, "old", 3 * DAY)
    assert photos.forget(datetime.now(UTC) - DAY) == 1
    assert not old.exists()
    assert by_query(photos) == {"new": new}
    assert "old" not in (tmp_path / "queries.jsonl").read_text()


def test_a_photo_that_was_sent_again_stays_without_its_old_query(tmp_path: Path) -> None:
    photos = PhotoStore(tmp_path)
    photo = photos.keep("old", JPEG)
    age_file(photo, 3 * DAY)
    age_index(tmp_path, "old", 3 * DAY)
    photos.keep("new", JPEG)
    assert photos.forget(datetime.now(UTC) - DAY) == 0
    assert by_query(photos) == {"new": photo}


def test_lines_of_older_releases_have_the_age_of_their_photo(tmp_path: Path) -> None:
    photos = PhotoStore(tmp_path)
    old, new = photos.keep("old", JPEG), photos.keep("new", PNG)
    lines = [{"query_id": id, "photo": f"{p.parent.name}/{p.name}"} for id, p in (("old", old), ("new", new))]
    (tmp_path / "queries.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    age_file(old, 3 * DAY)
    assert photos.forget(datetime.now(UTC) - DAY) == 1
    assert by_query(photos) == {"new": new}


def test_keeping_a_photo_deletes_expired_ones(tmp_path: Path) -> None:
    old = PhotoStore(tmp_path).keep("old", JPEG)
    age_file(old, 3 * DAY)
    age_index(tmp_path, "old", 3 * DAY)
    photos = PhotoStore(tmp_path, max_age=2 * DAY)
    new = photos.keep("new", PNG)
    assert by_query(photos) == {"new": new}
    assert not old.exists()


def test_expired_photos_are_deleted_at_most_once_an_hour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweeps: list[datetime] = []
    monkeypatch.setattr(PhotoStore, "forget", lambda self, before: sweeps.append(before) or 0)
    photos = PhotoStore(tmp_path, max_age=DAY)
    photos.keep("q1", JPEG)
    photos.keep("q2", PNG)
    assert len(sweeps) == 1
    PhotoStore(tmp_path, max_age=None).keep("q3", PNG)
    assert len(sweeps) == 1


def test_forgetting_before_the_first_photo_creates_nothing(tmp_path: Path) -> None:
    assert PhotoStore(tmp_path / "photos", DAY).forget_expired() == 0
    assert not list(tmp_path.iterdir())


def test_an_incomplete_line_is_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    photos = PhotoStore(tmp_path)
    kept = photos.keep("q1", JPEG)
    with (tmp_path / "queries.jsonl").open("a") as file:
        file.write('{"query_id": "q2", "ph')
    with caplog.at_level(logging.WARNING):
        assert by_query(photos) == {"q1": kept}
    assert "line 2" in caplog.text


def test_photos_that_cannot_be_deleted_are_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def read_only(self: PhotoStore, before: datetime) -> int:
        raise OSError("read-only file system")

    monkeypatch.setattr(PhotoStore, "forget", read_only)
    photos = PhotoStore(tmp_path, max_age=DAY)
    with caplog.at_level(logging.ERROR):
        kept = photos.keep("q1", JPEG)
    assert by_query(photos) == {"q1": kept}
    assert "read-only file system" in caplog.text
