"""Photos are kept in the background: a search never waits for the disk."""

from __future__ import annotations

import asyncio
import fcntl
from datetime import timedelta
from pathlib import Path

import pytest

from immr.events.query_photos import PhotoStore
from immr.experiment.file import save
from immr.settings import Settings
from serving.gateway.kept_photos import KeptPhotos
from serving.process.metrics import Metrics
from tests.support.in_process import served_gateway
from tests.support.kept_photos import by_query
from tests.support.shopper import RED, alone, search
from tests.support.stand_in_variant import stand_in


def errors(metrics: Metrics) -> float:
    return metrics.registry.get_sample_value("immr_errors_total", {"kind": "photos"}) or 0.0


def test_searches_are_answered_while_old_photos_are_deleted(tmp_path: Path) -> None:
    """Deleting a month of photos holds the lock of the folder for as long as it takes."""
    settings = Settings(home=tmp_path, keep_photos=True)
    settings.photos_dir.mkdir()
    with stand_in() as variant:
        save(alone(variant.url), settings.experiment_file)
        with served_gateway(settings) as client, (settings.photos_dir / ".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            answered = {search(client, user_id=f"user-{number}").json()["query_id"] for number in range(3)}
            assert by_query(PhotoStore(settings.photos_dir)) == {}
            fcntl.flock(lock, fcntl.LOCK_UN)
    kept = by_query(PhotoStore(settings.photos_dir))  # the gateway has stopped, and kept what waited
    assert set(kept) == answered
    assert {photo.read_bytes() for photo in kept.values()} == {RED}


def test_more_photos_than_may_wait_are_dropped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store, metrics = PhotoStore(tmp_path), Metrics()
    photos = KeptPhotos(store, metrics, max_waiting_bytes=10)
    with (tmp_path / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for number in range(4):
            photos.keep(f"q{number}", b"12345")
    asyncio.run(photos.close())
    assert set(by_query(store)) == {"q0", "q1"}
    assert errors(metrics) == 2
    assert "a photo was not kept: too many photos wait for the disk" in caplog.text


def test_what_has_been_written_waits_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does what could not be written."""
    store, metrics = PhotoStore(tmp_path, timedelta(days=1)), Metrics()
    photos = KeptPhotos(store, metrics, max_waiting_bytes=5)
    keep, failing = store.keep, iter([True])

    def fails_once(query_id: str, content: bytes) -> Path:
        if next(failing, False):
            raise OSError("no space left on device")
        return keep(query_id, content)

    monkeypatch.setattr(store, "keep", fails_once)
    for number in range(3):
        photos.keep(f"q{number}", b"12345")
        photos._thread.submit(lambda: None).result()
    asyncio.run(photos.close())
    assert set(by_query(store)) == {"q1", "q2"}
    assert errors(metrics) == 1
