"""Opens the model version of a Bento in the background, and retries until its parts fit together."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from immr.errors import FeaturesUnavailableError, ImmrError
from immr.evaluation.matches.rule import MATCH_RULE, MatchRule
from immr.features.feature_cache import RecentFeatures
from immr.features.feature_store import FeatureStore
from immr.index.vector_index import Collection
from immr.packaging.version_file import VersionFile
from immr.search.ranker import Ranker
from immr.search.searcher import Searcher
from immr.types import Candidate, ItemFeatures, UserFeatures
from immr.wiring import Parts
from serving.process.garbage import freeze_loaded_objects

if TYPE_CHECKING:
    from immr.model.query_encoder import OnnxQueryEncoder
    from immr.model.text_query_encoder import TextQueryEncoder

log = logging.getLogger(__name__)

RETRY_S = 2.0
FEATURES_AFTER_S = 10.0
"""How long loading the features waits for the search to open: two imports at once slow each other down."""
FEATURES_GRACE_S = 30.0
"""How long a version that answers searches waits for its features before it reports ready without them."""
FOLLOW_S = 0.1
"""How often a collection applies the catalogue changes that other processes left for it."""


class ServedVersion:
    """One model version: its encoder, collection and features, each opened in a thread."""

    def __init__(self, folder: Path, parts: Parts, threads: int = 1, at_once: int = 1) -> None:
        """Reads `version.json` and the rule for matches; `start` opens the rest.

        Args:
            folder: Contains the version's files.
            parts: Has the index and the feature store.
            threads: Threads per encoding.
            at_once: Concurrent encodings.
        """
        self.file = VersionFile.read(folder)
        self._reason = f"{self.file.id} is starting"
        self._folder = folder
        self._match_rule = MatchRule.read(folder / MATCH_RULE)
        self._parts = parts
        self._threads, self._at_once = threads, at_once
        self._encoder: OnnxQueryEncoder | None = None
        self._texts: TextQueryEncoder | None = None
        self._collection: Collection | None = None
        self._searcher: Searcher | None = None
        self._features: FeatureStore | None = None
        self._recent: RecentFeatures | None = None
        self._stop = threading.Event()
        self._opening = threading.Lock()
        self._opened = threading.Event()
        self._opened_at_s = 0.0
        self._features_tried = threading.Event()
        self._workers = [
            threading.Thread(target=self._retry, args=(self._open, "search"), daemon=True),
            threading.Thread(target=self._retry, args=(self._warm, "features"), daemon=True),
            threading.Thread(target=self._follow, daemon=True),
        ]

    def start(self) -> None:
        """Starts opening; returns at once."""
        for worker in self._workers:
            worker.start()

    def close(self) -> None:
        """Stops retrying and releases the collection."""
        self._stop.set()
        with self._opening:
            if self._collection is not None:
                self._collection.close()

    @property
    def searcher(self) -> Searcher | None:
        """None until searches can be answered; `not_ready_because` has the reason."""
        return self._searcher

    @property
    def not_ready_because(self) -> str:
        """Why the version should get no traffic yet; empty once it is ready.

        It does not wait for features that are unavailable at the first attempt.
        """
        if self._searcher is None:
            return self._reason
        if self._features_tried.is_set() or time.monotonic() - self._opened_at_s > FEATURES_GRACE_S:
            return ""
        return f"{self.file.id} is loading its features; until then, hits are ranked without them"

    @property
    def encoder(self) -> OnnxQueryEncoder:
        """The query encoder; only once searches can be answered."""
        assert self._encoder is not None, self._reason
        return self._encoder

    @property
    def features_ready(self) -> bool:
        """Whether hits come with features."""
        return self._recent is not None

    def item(self, item_id: str) -> Candidate | None:
        """A document of this version's index."""
        return self._collection.item(item_id) if self._collection else None

    def count(self) -> int:
        """Number of documents in this version's index."""
        return self._collection.count() if self._collection else 0

    def newest_feature(self) -> datetime | None:
        """When the newest feature was made; None until the store is open."""
        return self._features.freshness() if self._features else None

    def read(self, item_ids: Sequence[str]) -> dict[str, ItemFeatures]:
        """Features of these items. Until they are loaded, searches continue without them.

        Raises:
            FeaturesUnavailableError: not loaded yet, or the store does not answer.
        """
        return self._loaded().read(item_ids)

    def read_user(self, user_id: str) -> UserFeatures | None:
        """Features of a user, if there are any.

        Raises:
            FeaturesUnavailableError: not loaded yet, or the store does not answer.
        """
        return self._loaded().read_user(user_id)

    def _loaded(self) -> RecentFeatures:
        if self._recent is None:
            raise FeaturesUnavailableError("the feature store is still starting: wait, or see the log")
        return self._recent

    def _open(self) -> None:
        encoder = self._encoder = self._encoder or self._open_encoder()
        ranker = Ranker.read(self._folder)
        self._texts = self._texts or self._open_texts()
        with ExitStack() as undo:
            collection = self._parts.index.open(
                self.file.id, self.file.dim, self.file.preprocessing_hash, self.file.manifest_hash
            )
            undo.callback(collection.close)  # an embedded index left open would lock out the next attempt
            documents = collection.count()
            self._opened_at_s = time.monotonic()  # before `_searcher`: readiness counts the time since
            with self._opening:
                if self._stop.is_set():
                    return
                self._collection = collection
                self._searcher = Searcher(
                    encoder,
                    collection,
                    self,
                    self.file.ranking,
                    match_rule=self._match_rule,
                    texts=self._texts,
                    ranker=ranker,
                    users=self,
                )
            undo.pop_all()
        self._reason = ""
        self._opened.set()
        log.info("%s answers searches over %d documents", self.file.id, documents)
        freeze_loaded_objects()

    def _follow(self) -> None:
        """Applies catalogue changes: an embedded collection is written by the process that serves it."""
        logged = ""
        while not self._stop.wait(FOLLOW_S):
            try:
                if self._collection is not None and (applied := self._collection.refresh()):
                    log.info("%s applied %d catalogue changes", self.file.id, applied)
                logged = ""
            except Exception as error:  # searches continue on the previous catalogue, and no change is lost
                if str(error) != logged and not self._stop.is_set():
                    log.warning("catalogue changes could not be applied, retrying: %s", error)
                logged = str(error)

    def _open_encoder(self) -> OnnxQueryEncoder:
        from immr.model.query_encoder import OnnxQueryEncoder

        return OnnxQueryEncoder(self._folder, self._threads, self._at_once)

    def _open_texts(self) -> TextQueryEncoder | None:
        from immr.model.text_query_encoder import TextQueryEncoder, has_text_encoder

        if not has_text_encoder(self._folder):
            return None
        return TextQueryEncoder(self._folder, self._threads, self._at_once)

    def _warm(self) -> None:
        self._opened.wait(FEATURES_AFTER_S)
        start = time.perf_counter()
        try:
            features = self._parts.features
            features.warm()
            self._features, self._recent = features, RecentFeatures(features)
        finally:
            self._features_tried.set()
        log.info("features are ready after %.1f s", time.perf_counter() - start)
        freeze_loaded_objects()

    def _retry(self, attempt: Callable[[], None], part: str) -> None:
        logged = ""
        while not self._stop.is_set():
            try:
                attempt()
                return
            except Exception as error:  # any error: without this thread the service would never start
                reason = str(error) if isinstance(error, ImmrError) else f"{type(error).__name__}: {error}"
                if part == "search":
                    self._reason = reason
                if reason != logged:
                    log.warning("%s is not ready, retrying: %s", part, reason)
                logged = reason
            self._stop.wait(RETRY_S)
