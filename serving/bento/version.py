"""The one model version that a Bento serves: brought up in the background, ready when its parts fit."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from immr.errors import FeaturesUnavailableError, ImmrError
from immr.features.feature_store import FeatureStore
from immr.features.recent import RecentFeatures
from immr.index.vector_index import Collection
from immr.packaging.version_file import VersionFile
from immr.search.searcher import Searcher
from immr.settings import Settings
from immr.types import Candidate, ItemFeatures
from immr.wiring import connect
from serving.process.garbage import spare_what_is_loaded

if TYPE_CHECKING:
    from immr.model.query_encoder import OnnxQueryEncoder

log = logging.getLogger(__name__)

RETRY_S = 2.0
SEARCH_FIRST_S = 10.0  # searches without features beat none: two imports at once only hold each other up
FOLLOW_S = 1.0  # how often a collection is asked for catalogue changes that others left


class ServedVersion:
    """Opens encoder, collection and features in threads, again and again until they fit."""

    def __init__(self, folder: Path, settings: Settings, threads: int = 1, at_once: int = 1) -> None:
        """`folder` holds a version's files and `version.json`; for `threads` and `at_once` see `Graph`."""
        self.file = VersionFile.read(folder)
        self.reason = f"{self.file.id} is starting"
        self._folder = folder
        self._settings = settings
        self._threads, self._at_once = threads, at_once
        self._encoder: OnnxQueryEncoder | None = None
        self._collection: Collection | None = None
        self._searcher: Searcher | None = None
        self._features: FeatureStore | None = None
        self._recent: RecentFeatures | None = None
        self._stop = threading.Event()
        self._opened = threading.Event()
        self._workers = [
            threading.Thread(target=self._until_done, args=(self._open, "search"), daemon=True),
            threading.Thread(target=self._until_done, args=(self._warm, "features"), daemon=True),
            threading.Thread(target=self._follow, daemon=True),
        ]

    def start(self) -> None:
        """Begin; returns at once."""
        for worker in self._workers:
            worker.start()

    def close(self) -> None:
        """Stop trying and let go of the collection."""
        self._stop.set()
        if self._collection is not None:
            self._collection.close()

    @property
    def searcher(self) -> Searcher | None:
        """None until the version is ready; `reason` says why."""
        return self._searcher

    @property
    def encoder(self) -> OnnxQueryEncoder:
        """The query encoder; only of a version that is ready."""
        assert self._encoder is not None, self.reason
        return self._encoder

    @property
    def features_ready(self) -> bool:
        """Whether answers come with features."""
        return self._recent is not None

    def item(self, item_id: str) -> Candidate | None:
        """A document of this version's index."""
        return self._collection.item(item_id) if self._collection else None

    def count(self) -> int:
        """Number of documents in this version's index."""
        return self._collection.count() if self._collection else 0

    def newest_feature(self) -> datetime | None:
        """When the newest feature was made; None until the store is there."""
        return self._features.freshness() if self._features else None

    def read(self, item_ids: Sequence[str]) -> dict[str, ItemFeatures]:
        """Features once they are warm; until then the answer does without, rather than wait.

        Raises:
            FeaturesUnavailableError: not warm yet, or the store does not answer.
        """
        if self._recent is None:
            raise FeaturesUnavailableError("the feature store is still starting: wait, or look at the log")
        return self._recent.read(item_ids)

    def _open(self) -> None:
        encoder = self._encoder = self._encoder or self._open_encoder()
        self._collection = connect(self._settings).index.open(
            self.file.id, self.file.dim, self.file.preprocessing_hash
        )
        self._searcher = Searcher(encoder, self._collection, self, self.file.ranking)
        self.reason = ""
        self._opened.set()
        log.info("%s is ready with %d documents", self.file.id, self._collection.count())
        spare_what_is_loaded()

    def _follow(self) -> None:
        """Take over catalogue changes: an embedded collection is written by the process that serves it."""
        said = ""
        while not self._stop.wait(FOLLOW_S):
            try:
                if self._collection is not None and (taken := self._collection.refresh()):
                    log.info("%s took over %d catalogue changes", self.file.id, taken)
                said = ""
            except Exception as error:  # searches go on with what was there; the changes stay where they are
                if str(error) != said and not self._stop.is_set():
                    log.warning("catalogue changes wait: %s", error)
                said = str(error)

    def _open_encoder(self) -> OnnxQueryEncoder:
        from immr.model.query_encoder import OnnxQueryEncoder

        return OnnxQueryEncoder(self._folder, self._threads, self._at_once)

    def _warm(self) -> None:
        self._opened.wait(SEARCH_FIRST_S)
        start = time.perf_counter()
        self._features = self._features or connect(self._settings).features
        self._features.warm()
        self._recent = RecentFeatures(self._features)
        log.info("features are ready after %.1f s", time.perf_counter() - start)
        spare_what_is_loaded()

    def _until_done(self, attempt: Callable[[], None], part: str) -> None:
        said = ""
        while not self._stop.is_set():
            try:
                attempt()
                return
            except Exception as error:  # a thread that dies would leave the service waiting for ever
                reason = str(error) if isinstance(error, ImmrError) else f"{type(error).__name__}: {error}"
                if part == "search":
                    self.reason = reason
                if reason != said:
                    log.warning("%s is not ready, trying again: %s", part, reason)
                said = reason
            self._stop.wait(RETRY_S)
