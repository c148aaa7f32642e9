"""The path of a query, with a real encoder and a real collection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from immr.errors import FeaturesUnavailableError, ImageError
from immr.index.vector_index import Collection
from immr.model.query_encoder import OnnxQueryEncoder
from immr.search.ranking import RankingRecipe
from immr.search.searcher import Searcher
from immr.settings import Settings
from immr.types import Filters, ItemFeatures
from immr.wiring import connect
from tests.support import tiny_version


class KnownFeatures:
    """Features from a dict."""

    def __init__(self, known: dict[str, ItemFeatures]) -> None:
        self._known = known

    def read(self, item_ids: Sequence[str]) -> dict[str, ItemFeatures]:
        return {item_id: self._known[item_id] for item_id in item_ids if item_id in self._known}


class NoFeatures:
    """A store that is down."""

    def read(self, item_ids: Sequence[str]) -> dict[str, ItemFeatures]:
        raise FeaturesUnavailableError("the store is down: start it")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> OnnxQueryEncoder:
    return OnnxQueryEncoder(tiny_version.write_files(tmp_path_factory.mktemp("version")))


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    home = tmp_path_factory.mktemp("home")
    settings = Settings(home=home)
    folder = tiny_version.write_files(home / "version")
    tiny_version.build_index(settings, folder, tiny_version.items(home / "pictures"))
    version = tiny_version.version()
    opened = connect(settings).index.open(version.id, version.dim, version.preprocessing_hash)
    yield opened
    opened.close()


@pytest.mark.parametrize("colour", list(tiny_version.COLOURS))
def test_a_photo_finds_its_item(encoder: OnnxQueryEncoder, collection: Collection, colour: str) -> None:
    answer = Searcher(encoder, collection, None, RankingRecipe()).search(tiny_version.photo(colour), k=2)
    assert next(hit.item_id for hit in answer.hits) == colour
    assert len(answer.hits) == 2
    assert answer.degraded == []
    assert list(answer.stage_ms) == ["decode", "encode", "retrieve", "features", "rank"]
    assert Path(answer.hits[0].image).is_file()


def test_features_lift_an_item_and_the_score_parts_add_up(
    encoder: OnnxQueryEncoder, collection: Collection
) -> None:
    popular = KnownFeatures({"blue": ItemFeatures(2.0, "Other/2", 100, 90, 0.9)})
    searcher = Searcher(encoder, collection, popular, RankingRecipe(ctr_weight=10.0))
    answer = searcher.search(tiny_version.photo("red"), k=3)
    assert answer.hits[0].item_id == "blue"
    for hit in answer.hits:
        assert hit.score == pytest.approx(sum(hit.score_parts.values()))


def test_without_overfetch_an_item_outside_the_top_k_cannot_rise(
    encoder: OnnxQueryEncoder, collection: Collection
) -> None:
    popular = KnownFeatures({"blue": ItemFeatures(2.0, "Other/2", 100, 90, 0.9)})
    searcher = Searcher(encoder, collection, popular, RankingRecipe(ctr_weight=10.0), overfetch=1)
    assert searcher.search(tiny_version.photo("red"), k=1).hits[0].item_id == "red"


def test_failing_features_degrade_the_answer(encoder: OnnxQueryEncoder, collection: Collection) -> None:
    answer = Searcher(encoder, collection, NoFeatures(), RankingRecipe()).search(tiny_version.photo("red"), 1)
    assert answer.degraded == ["features"]
    assert answer.hits[0].item_id == "red"


def test_a_category_filter_includes_subcategories(encoder: OnnxQueryEncoder, collection: Collection) -> None:
    searcher = Searcher(encoder, collection, None, RankingRecipe())
    photo = tiny_version.photo("blue")
    assert [hit.item_id for hit in searcher.search(photo, 5, Filters("Warm")).hits] == ["red"]
    assert searcher.search(photo, 5, Filters("Nowhere")).hits == []


@pytest.mark.parametrize("content", [b"", b"<html>", tiny_version.photo("red")[:200]])
def test_bytes_that_are_not_a_picture_are_an_image_error(
    encoder: OnnxQueryEncoder, collection: Collection, content: bytes
) -> None:
    with pytest.raises(ImageError):
        Searcher(encoder, collection, None, RankingRecipe()).search(content, 1)


def test_more_like_leaves_out_the_item_itself(encoder: OnnxQueryEncoder, collection: Collection) -> None:
    searcher = Searcher(encoder, collection, None, RankingRecipe())
    found = searcher.more_like("red", 10)
    assert found is not None
    assert sorted(hit.item_id for hit in found.hits) == sorted(set(tiny_version.COLOURS) - {"red"})
    assert searcher.more_like("no such item", 10) is None


@pytest.mark.parametrize(("k", "overfetch"), [(1, 1), (1, 3), (2, 1), (2, 2), (3, 3), (5, 1), (10, 3)])
def test_pages_contain_every_item_once(
    encoder: OnnxQueryEncoder, collection: Collection, k: int, overfetch: int
) -> None:
    popular = KnownFeatures({"blue": ItemFeatures(2.0, "Other/2", 100, 90, 0.9)})
    searcher = Searcher(encoder, collection, popular, RankingRecipe(ctr_weight=0.3), overfetch)
    answer, seen, number = searcher.search(tiny_version.photo("red"), k), [], 0
    seen += answer.hits
    while answer.has_more:
        number += 1
        answer = searcher.page(answer.embedding_D, k, Filters(), number)
        assert answer.hits, "no page is empty"
        seen += answer.hits
    assert sorted(hit.item_id for hit in seen) == sorted(tiny_version.COLOURS)
