"""Opening a version in the background: retries, readiness, and what a failure leaves behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from immr.errors import IndexUnavailableError
from immr.features.feast_store import FeastFeatures
from immr.index.collection import QdrantCollection
from immr.search.pages import Wanted
from immr.settings import Settings
from immr.wiring import connect
from serving.bento import version
from serving.bento.version import ServedVersion
from tests.support import tiny_version
from tests.support.patience import until


@contextmanager
def started(home: Path) -> Iterator[ServedVersion]:
    served = ServedVersion(home / "immr-1", connect(Settings(home=home)))
    served.start()
    try:
        yield served
    finally:
        served.close()


def test_an_error_after_opening_closes_the_collection_before_the_next_try(
    free_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An embedded index that stayed open would lock out every later try."""
    monkeypatch.setattr(version, "RETRY_S", 0.05)
    count, failures = QdrantCollection.count, iter([1, 1])

    def fails_twice(collection: QdrantCollection) -> int:
        if next(failures, None):
            raise IndexUnavailableError("the index was interrupted: try again")
        return count(collection)

    monkeypatch.setattr(QdrantCollection, "count", fails_twice)
    with started(free_home) as served:
        until(lambda: served.searcher, context=lambda: served.not_ready_because)
        assert served.count() == 5
    with started(free_home) as again:
        until(lambda: again.searcher, context=lambda: again.not_ready_because)


def test_a_version_that_has_just_opened_waits_for_its_features(
    free_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first moment with a searcher on: a single answer of readiness would bring shoppers."""
    monkeypatch.setattr(version, "FEATURES_AFTER_S", 600.0)
    reasons: list[str] = []

    class Watched(ServedVersion):
        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, value)
            if name == "_searcher" and value is not None:
                reasons.append(self.not_ready_because)

    served = Watched(free_home / "immr-1", connect(Settings(home=free_home)))
    served.start()
    try:
        until(lambda: reasons, context=lambda: served.not_ready_because)
    finally:
        served.close()
    assert "is loading its features" in reasons[0]


def test_a_version_that_is_closed_while_it_opens_releases_its_collection(
    free_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, opened = QdrantCollection.count, []

    def closes_meanwhile(collection: QdrantCollection) -> int:
        opened.append(collection)
        served.close()
        return count(collection)

    monkeypatch.setattr(QdrantCollection, "count", closes_meanwhile)
    served = ServedVersion(free_home / "immr-1", connect(Settings(home=free_home)))
    served.start()
    until(lambda: opened)
    monkeypatch.undo()
    with started(free_home) as again:
        until(lambda: again.searcher, context=lambda: again.not_ready_because)
    assert served.searcher is None


def test_a_version_is_ready_once_its_features_are_loaded(
    free_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed: list[bool] = []
    monkeypatch.setattr(FeastFeatures, "warm", lambda store: until(lambda: allowed, pause_s=0.01))
    with started(free_home) as served:
        until(lambda: served.searcher, context=lambda: served.not_ready_because)
        assert "is loading its features" in served.not_ready_because
        allowed.append(True)
        until(lambda: not served.not_ready_because)
        assert served.features_ready


@pytest.mark.parametrize("hangs", [False, True])
def test_a_version_without_a_feature_store_is_ready_without_it(
    free_home: Path, monkeypatch: pytest.MonkeyPatch, hangs: bool
) -> None:
    released: list[bool] = []
    if hangs:
        monkeypatch.setattr(version, "FEATURES_GRACE_S", 0.2)
        monkeypatch.setattr(FeastFeatures, "warm", lambda store: until(lambda: released, pause_s=0.01))
    with started(free_home) as served:
        until(lambda: not served.not_ready_because, context=lambda: served.not_ready_because)
        assert served.searcher and not served.features_ready
        released.append(True)


def test_a_version_with_a_text_encoder_embeds_words(free_home: Path) -> None:
    tiny_version.write_text_encoder(free_home / "immr-1")
    with started(free_home) as served:
        searcher = until(lambda: served.searcher, context=lambda: served.not_ready_because)
        answer = searcher.search([], Wanted(5, text="green"))
        assert answer.hits[0].item_id == "green"
        assert len(answer.hits) == 5  # by words, only one has this title
