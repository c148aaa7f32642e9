"""The gateway deletes kept photos after IMMR_KEEP_PHOTOS_DAYS."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from immr.events.query_photos import PhotoStore
from immr.settings import Settings
from immr.wiring import connect
from serving.gateway.split import Gateway
from tests.support.kept_photos import by_query

DAY_S = 24 * 3600.0


@pytest.mark.parametrize("keep_photos", [True, False])
def test_expired_photos_are_deleted_when_the_gateway_starts(tmp_path: Path, keep_photos: bool) -> None:
    settings = Settings(home=tmp_path, keep_photos=keep_photos, keep_photos_days=2.0)
    photos = PhotoStore(settings.photos_dir)
    expired, recent = photos.keep("q1", b"expired"), photos.keep("q2", b"recent")
    index = settings.photos_dir / "queries.jsonl"
    index.write_text(
        "".join(
            f'{{"query_id": "{query_id}", "photo": "{photo.parent.name}/{photo.name}"}}\n'
            for query_id, photo in (("q1", expired), ("q2", recent))
        )
    )
    for photo, days in ((expired, 3), (recent, 1)):
        then = time.time() - days * DAY_S
        os.utime(photo, (then, then))
    gateway = Gateway(connect(settings))
    asyncio.run(gateway.recorder.close())
    assert by_query(photos) == {"q2": recent}
    assert not expired.exists()
    assert "q1" not in index.read_text()
