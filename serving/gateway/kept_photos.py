"""Keeps query photos in the background: no shopper waits for the disk, or for the deletion of old photos."""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

from immr.events.query_photos import PhotoStore
from serving.process.metrics import Metrics

log = logging.getLogger(__name__)

MAX_WAITING_BYTES = 64 * 2**20
"""A photo that would exceed this is dropped."""


class KeptPhotos:
    """One thread that writes photos, the oldest first. What is dropped or fails counts as an error, `photos`."""

    def __init__(
        self, store: PhotoStore, metrics: Metrics, max_waiting_bytes: int = MAX_WAITING_BYTES
    ) -> None:
        self._store = store
        self._errors = metrics.errors.labels("photos")
        self._max_waiting_bytes = max_waiting_bytes
        self._waiting_bytes = 0
        self._counting = threading.Lock()
        self._thread = ThreadPoolExecutor(1, "photos")

    def keep(self, query_id: str, photo: bytes) -> None:
        """Keeps a query's photo soon; returns at once."""
        with self._counting:
            is_dropped = self._waiting_bytes + len(photo) > self._max_waiting_bytes
            if not is_dropped:
                self._waiting_bytes += len(photo)
        if is_dropped:
            self._failed("too many photos wait for the disk")
        else:
            self._thread.submit(self._write, query_id, photo)

    async def close(self) -> None:
        """Writes what waits."""
        await asyncio.to_thread(self._thread.shutdown)

    def _write(self, query_id: str, photo: bytes) -> None:
        try:
            self._store.keep(query_id, photo)
        except OSError as error:
            self._failed(str(error))
        finally:
            with self._counting:
                self._waiting_bytes -= len(photo)

    def _failed(self, reason: str) -> None:
        log.error("a photo was not kept: %s", reason)
        self._errors.inc()
