"""A query from photo to hits, with a real encoder and a real collection."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from immr.errors import FeaturesUnavailableError, ImageError
from immr.evaluation.matches.rule import MatchRule, PhotoDomain
from immr.index.qdrant import QdrantIndex
from immr.index.vector_index import EVERYTHING, Collection
from immr.model.query_encoder import OnnxQueryEncoder
from immr.model.text_query_encoder import TextQueryEncoder
from immr.search.grouping import MOST_MEMBERS
from immr.search.pages import Cursor, Wanted
from immr.search.personal_signals import Personal, personal_names
from immr.search.ranker import Ranker
from immr.search.ranking import RankingRecipe
from immr.search.searcher import Searcher
from immr.search.signals import names
from immr.search.trees import Tree, Trees
from immr.settings import Settings
from immr.types import (
    Candidate,
    Condition,
    Filters,
    FloatArray,
    Item,
    ItemFeatures,
    ModelVersion,
    Region,
    UserFeatures,
)
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
    answer = Searcher(encoder, collection, None, RankingRecipe()).search(
        [tiny_version.photo(colour)], Wanted(2)
    )
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
    answer = searcher.search([tiny_version.photo("red")], Wanted(3))
    assert answer.hits[0].item_id == "blue"
    for hit in answer.hits:
        assert hit.score == pytest.approx(sum(hit.score_parts.values()))


def test_without_overfetch_an_item_outside_the_top_k_cannot_rise(
    encoder: OnnxQueryEncoder, collection: Collection
) -> None:
    popular = KnownFeatures({"blue": ItemFeatures(2.0, "Other/2", 100, 90, 0.9)})
    searcher = Searcher(encoder, collection, popular, RankingRecipe(ctr_weight=10.0), overfetch=1)
    assert searcher.search([tiny_version.photo("red")], Wanted(1)).hits[0].item_id == "red"


def test_failing_features_degrade_the_answer(encoder: OnnxQueryEncoder, collection: Collection) -> None:
    answer = Searcher(encoder, collection, NoFeatures(), RankingRecipe()).search(
        [tiny_version.photo("red")], Wanted(1)
    )
    assert answer.degraded == ["features"]
    assert answer.hits[0].item_id == "red"


def reverses() -> Ranker:
    """A ranker that prefers what is least similar."""
    column = names({}).index("first_rank")
    steps = [Tree([column], [rank + 0.5], [True], [1], [0.0, 10.0]) for rank in range(1, 5)]
    return Ranker({}, RankingRecipe(), 1.0, Trees(steps))


def test_a_ranker_orders_photo_searches_and_no_others(
    encoder: OnnxQueryEncoder, collection: Collection
) -> None:
    by_hand = Searcher(encoder, collection, KnownFeatures({}), RankingRecipe())
    learned = Searcher(encoder, collection, KnownFeatures({}), RankingRecipe(), ranker=reverses())
    photo, all_of_them = tiny_version.photo("red"), Wanted(5)
    former = [hit.item_id for hit in by_hand.search([photo], all_of_them).hits]
    found = learned.search([photo], all_of_them).hits
    assert [hit.item_id for hit in found] == former[::-1]
    for hit in found:
        assert hit.score == pytest.approx(sum(hit.score_parts.values()))
    for wanted in (Wanted(5, text="a red thing"), Wanted(3)):
        photos = [photo] if not wanted.text else []
        hits = [each.search(photos, wanted).hits for each in (by_hand, learned)]
        same = [hit.item_id for hit in hits[0]] == [hit.item_id for hit in hits[1]]
        assert same == bool(wanted.text)
    similar = [each.more_like("red", all_of_them) for each in (by_hand, learned)]
    assert similar[0] and similar[1]
    assert [hit.item_id for hit in similar[0].hits] == [hit.item_id for hit in similar[1].hits]


def test_without_features_the_hand_weights_rank(encoder: OnnxQueryEncoder, collection: Collection) -> None:
    searcher = Searcher(encoder, collection, NoFeatures(), RankingRecipe(), ranker=reverses())
    answer = searcher.search([tiny_version.photo("red")], Wanted(5))
    assert answer.hits[0].item_id == "red"
    assert "learned" not in answer.hits[0].score_parts


def test_a_later_block_is_ranked_with_the_head_of_the_whole_search(
    encoder: OnnxQueryEncoder, collection: Collection
) -> None:
    column = names({}).index("cosine_behind")
    as_behind = Ranker({}, RankingRecipe(), 1.0, Trees([Tree([column], [0.0], [True], [1], [5.0, 0.0])]))
    searcher = Searcher(encoder, collection, KnownFeatures({}), RankingRecipe(), 1, ranker=as_behind)
    first = searcher.search([tiny_version.photo("red")], Wanted(2))
    assert first.following is not None
    later = searcher.page(first.embedding_D, Wanted(2), first.following)
    assert [hit.score_parts["learned"] for hit in first.hits] == [5, 0]
    assert [hit.score_parts["learned"] for hit in later.hits] == [0, 0]


def test_a_category_filter_includes_subcategories(encoder: OnnxQueryEncoder, collection: Collection) -> None:
    searcher = Searcher(encoder, collection, None, RankingRecipe())
    photo = tiny_version.photo("blue")
    assert [hit.item_id for hit in searcher.search([photo], Wanted(5, Filters("Warm"))).hits] == ["red"]
    assert searcher.search([photo], Wanted(5, Filters("Nowhere"))).hits == []


@pytest.mark.parametrize("content", [b"", b"<html>", tiny_version.photo("red")[:200]])
def test_bytes_that_are_not_a_picture_are_an_image_error(
    encoder: OnnxQueryEncoder, collection: Collection, content: bytes
) -> None:
    with pytest.raises(ImageError):
        Searcher(encoder, collection, None, RankingRecipe()).search([content], Wanted(1))


def test_more_like_leaves_out_the_item_itself(encoder: OnnxQueryEncoder, collection: Collection) -> None:
    searcher = Searcher(encoder, collection, None, RankingRecipe())
    found = searcher.more_like("red", Wanted(10))
    assert found is not None
    assert sorted(hit.item_id for hit in found.hits) == sorted(set(tiny_version.COLOURS) - {"red"})
    assert searcher.more_like("no such item", Wanted(10)) is None


@pytest.mark.parametrize(("k", "overfetch"), [(1, 1), (1, 3), (2, 1), (2, 2), (3, 3), (5, 1), (10, 3)])
def test_pages_contain_every_item_once(
    encoder: OnnxQueryEncoder, collection: Collection, k: int, overfetch: int
) -> None:
    popular = KnownFeatures({"blue": ItemFeatures(2.0, "Other/2", 100, 90, 0.9)})
    searcher = Searcher(encoder, collection, popular, RankingRecipe(ctr_weight=0.3), overfetch)
    answer = searcher.search([tiny_version.photo("red")], Wanted(k))
    seen = list(answer.hits)
    while answer.following is not None:
        answer = searcher.page(answer.embedding_D, Wanted(k), answer.following)
        assert answer.hits, "no page is empty"
        seen += answer.hits
    assert sorted(hit.item_id for hit in seen) == sorted(tiny_version.COLOURS)


@pytest.mark.parametrize(("k", "overfetch"), [(1, 1), (2, 1), (2, 3), (10, 1)])
def test_grouped_pages_contain_every_group_once(
    encoder: OnnxQueryEncoder, collection: Collection, k: int, overfetch: int
) -> None:
    searcher = Searcher(encoder, collection, None, RankingRecipe(), overfetch)
    wanted = Wanted(k, group_by="shade")
    answer = searcher.search([tiny_version.photo("yellow")], wanted)
    seen = list(answer.hits)
    while answer.following is not None:
        answer = searcher.page(answer.embedding_D, wanted, answer.following)
        assert answer.hits, "no page is empty"
        seen += answer.hits
    groups = {hit.item_id: (hit.group, [member.item_id for member in hit.members]) for hit in seen}
    assert next(iter(groups)) == "yellow"
    assert groups["yellow"] == ("warm", ["red"])
    assert groups["with/slash ü"] == (None, []), "an item without the attribute is a group of its own"
    assert len(groups) == len(seen) == 3


class OneUser:
    """A user who clicked on the blue item; counts the reads."""

    reads = 0

    def read_user(self, user_id: str) -> UserFeatures | None:
        self.reads += 1
        return UserFeatures(("blue",), ("",), (1.0,), ({},))


def test_a_grouped_search_reads_the_user_once(encoder: OnnxQueryEncoder, collection: Collection) -> None:
    lifts = Tree([personal_names({}).index("clicked_before")], [0.5], [True], [1], [0.0, 30.0])
    ranker = Ranker({}, RankingRecipe(), 0.1, Trees([]), Personal(0.1, Trees([lifts])))
    user = OneUser()
    searcher = Searcher(
        encoder, collection, KnownFeatures({}), RankingRecipe(), overfetch=1, ranker=ranker, users=user
    )
    wanted = Wanted(3, group_by="shade")
    assert len(searcher.search([tiny_version.photo("yellow")], wanted, user_id="ann").hits) == 3
    assert user.reads == 1
    pages = [searcher.search([tiny_version.photo("yellow")], Wanted(1), user_id="ann")]
    while (following := pages[-1].following) is not None:
        pages.append(searcher.page(pages[-1].embedding_D, Wanted(1), following, "ann"))
    learned = {page.hits[0].item_id: page.hits[0].score_parts["learned"] for page in pages}
    assert learned == {name: 3.0 * (name == "blue") for name in tiny_version.COLOURS}


@contextmanager
def shop(items: Sequence[Item], folder: Path, seed: int) -> Iterator[tuple[Collection, FloatArray]]:
    """A collection of these items with random embeddings, and the embeddings."""
    rows_ND = np.random.default_rng(seed).normal(size=(len(items), 8)).astype(np.float32)
    rows_ND /= np.linalg.norm(rows_ND, axis=1, keepdims=True)
    version = ModelVersion("shop", 1, "key", "run", 8, "prep", "manifest", "concept")
    index = QdrantIndex(f"edge://{folder}/index")
    index.build(version, items, rows_ND)
    with closing(index.open(version.id, version.dim, version.preprocessing_hash)) as collection:
        yield collection, rows_ND


@pytest.mark.parametrize(
    ("k", "sizes"),
    [
        (3, {"Tea": 6, "Tea/Green": 13, "Oil": 30}),
        (2, {"Tea": 12, "Tea/Green": 150, "Tea/Green/Sencha": 3}),  # a filter on "Tea" passes all of them
        (2, {"Cake": 12, "Oil": 150}),
    ],
)
def test_members_are_the_most_similar_of_their_group_however_many_were_seen(
    encoder: OnnxQueryEncoder, tmp_path: Path, k: int, sizes: dict[str, int]
) -> None:
    categories = [category for category, size in sizes.items() for _ in range(size)]
    items = [
        Item(f"i{n}", "", "", category, "", 1.0, datetime(2026, 1, 1, tzinfo=UTC))
        for n, category in enumerate(categories)
    ]
    with shop(items, tmp_path, seed=0) as (collection, rows_ND):
        for overfetch, members, query_D in product((1, 3, 5, 20), (0, 2, MOST_MEMBERS), rows_ND[::12]):
            searcher = Searcher(encoder, collection, None, RankingRecipe(), overfetch)
            answer = searcher.page(query_D, Wanted(k, group_by="category", members=members), Cursor())
            ranked = collection.search(query_D, len(items))
            assert {hit.group for hit in answer.hits} <= set(sizes) and len(answer.hits) == k
            for hit in answer.hits:
                others = [each for each in ranked if each.category == hit.group]
                assert [each.item_id for each in (*others[:1], *hit.members)] == [
                    each.item_id for each in others[: members + 1]
                ]


class CountsFeatures:
    """A feature store whose items all have the same features; counts the items that are read."""

    read_items = 0

    def read(self, item_ids: Sequence[str]) -> dict[str, ItemFeatures]:
        self.read_items += len(item_ids)
        return dict.fromkeys(item_ids, ItemFeatures(1.0, "", 0, 0, 0.0))


def test_a_grouped_search_reads_features_of_the_best_items_of_each_group(
    encoder: OnnxQueryEncoder, tmp_path: Path
) -> None:
    """Reading them takes longer than finding the items."""
    items = [Item(f"i{n}", "", "", f"c{n % 4}", "", 1.0, datetime(2026, 1, 1, tzinfo=UTC)) for n in range(60)]
    with shop(items, tmp_path, seed=0) as (collection, rows_ND):
        features = CountsFeatures()
        searcher = Searcher(encoder, collection, features, RankingRecipe(), overfetch=3)
        answer = searcher.page(rows_ND[0], Wanted(10, group_by="category"), Cursor())
    assert sorted(str(hit.group) for hit in answer.hits) == ["c0", "c1", "c2", "c3"]
    assert all(len(hit.members) == 3 for hit in answer.hits) and features.read_items == 12


def test_a_ranker_orders_groups_by_the_true_ranks_of_their_items(
    encoder: OnnxQueryEncoder, tmp_path: Path
) -> None:
    """Only some candidates of a block are ranked; they keep their ranks by similarity."""
    items = [Item(f"i{n}", "", "", f"c{n % 9}", "", 1.0, datetime(2026, 1, 1, tzinfo=UTC)) for n in range(90)]
    first_rank = names({}).index("first_rank")
    ranker = Ranker({}, RankingRecipe(), 0.1, Trees([Tree([first_rank], [5.5], [True], [1], [0.0, 2.0])]))
    with shop(items, tmp_path, seed=1) as (collection, rows_ND):
        for k, query_D in product((1, 2, 4, 9), rows_ND[::30]):
            searcher = Searcher(encoder, collection, KnownFeatures({}), RankingRecipe(), ranker=ranker)
            wanted = Wanted(k, group_by="category")
            answers = [searcher.page(query_D, wanted, Cursor())]
            while (following := answers[-1].following) is not None:
                answers.append(searcher.page(query_D, wanted, following))
            hits = [hit for answer in answers for hit in answer.hits]
            assert sorted(hit.group or "" for hit in hits) == [f"c{n}" for n in range(9)]
            assert searcher.page(query_D, replace(wanted, filters=Filters("nowhere")), Cursor()).hits == []
            rank_of = {each.item_id: rank for rank, each in enumerate(collection.search(query_D, 90), 1)}
            assert [hit.score_parts["learned"] for hit in hits] == pytest.approx(
                [0.2 * (rank_of[hit.item_id] > 5) for hit in hits]
            )
            assert all(len({hit.item_id, *(each.item_id for each in hit.members)}) == 4 for hit in hits)
            for answer in answers:
                scores = [hit.score for hit in answer.hits]
                assert scores == sorted(scores, reverse=True) or k == 9


class CountsCandidates:
    """A collection that counts the candidates it returns."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self.returned = 0

    def search(
        self, embedding_D: FloatArray, k: int, filters: Filters = EVERYTHING, offset: int = 0
    ) -> list[Candidate]:
        found = self._collection.search(embedding_D, k, filters, offset)
        self.returned += len(found)
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._collection, name)


@pytest.mark.parametrize("group_by", ["category", "brand"])
def test_large_groups_are_not_looked_through_for_others(
    encoder: OnnxQueryEncoder, tmp_path: Path, group_by: str
) -> None:
    """Items of one department in 20 once filled block after block, up to 5,000 items and 0.2 s."""
    sizes = {"a": 700, "a/b": 500, "c": 1, "d": 300, "e": 2}
    groups = [group for group, size in sizes.items() for _ in range(size)] + [""] * 3
    items = [
        Item(
            *(f"i{n}", "", "", group, "", 1.0, datetime(2026, 1, 1, tzinfo=UTC)),
            attributes={"brand": group} if group else {},
        )
        for n, group in enumerate(groups)
    ]
    rng = np.random.default_rng(0)
    rows_ND = np.repeat(np.eye(8), [*sizes.values(), 3, 0, 0], axis=0) + 0.01 * rng.normal(
        size=(len(items), 8)
    )
    rows_ND = (rows_ND / np.linalg.norm(rows_ND, axis=1, keepdims=True)).astype(np.float32)
    query_D = np.array([8, 7, 3, 5, 4, 6, 0, 0], np.float32) / np.sqrt(199, dtype=np.float32)
    version = ModelVersion("shop", 1, "key", "run", 8, "prep", "manifest", "concept")
    index = QdrantIndex(f"edge://{tmp_path}/index")
    index.build(version, items, rows_ND)
    with closing(index.open(version.id, version.dim, version.preprocessing_hash)) as opened:
        for k in (2, 3, 8):
            counting = CountsCandidates(opened)
            searcher = Searcher(encoder, cast("Collection", counting), None, RankingRecipe())
            wanted = Wanted(k, group_by=group_by)
            pages = [searcher.page(query_D, wanted, Cursor())]
            while (following := pages[-1].following) is not None:
                pages.append(searcher.page(query_D, wanted, following))
            shown = [hit.group for page in pages for hit in page.hits]
            assert shown == ["a", "a/b", None, None, None, "d", "e", "c"]
            assert counting.returned < 400 and all(page.hits for page in pages)


def test_members_pass_the_filters(encoder: OnnxQueryEncoder, collection: Collection) -> None:
    searcher = Searcher(encoder, collection, None, RankingRecipe())
    cheap = Wanted(5, Filters(price_max=1.5), group_by="shade")
    [hit] = searcher.search([tiny_version.photo("yellow")], cheap).hits
    assert (hit.item_id, hit.group, hit.members) == ("red", "warm", ())


def test_a_facet_ignores_its_own_filters(encoder: OnnxQueryEncoder, collection: Collection) -> None:
    searcher = Searcher(encoder, collection, None, RankingRecipe())
    warm = Filters(conditions=(Condition("shade", ("warm",)),))
    facets = searcher.facets(["shade", "size"], warm)
    assert facets["shade"].counts == {"cold": 2, "warm": 2}
    assert (facets["size"].smallest, facets["size"].largest) == (40.0, 43.0)
    assert searcher.facets(["price"], Filters(price_max=2.0))["price"].largest == 5.0


def test_several_photos_are_averaged(encoder: OnnxQueryEncoder, collection: Collection) -> None:
    searcher = Searcher(encoder, collection, None, RankingRecipe())
    both = searcher.search([tiny_version.photo("red"), tiny_version.photo("yellow")], Wanted(5))
    assert {hit.item_id for hit in both.hits[:2]} == {"red", "yellow"}
    assert float(np.linalg.norm(both.embedding_D)) == pytest.approx(1.0, abs=1e-5)


def test_a_region_is_searched_without_the_rest_of_the_photo(
    encoder: OnnxQueryEncoder, collection: Collection
) -> None:
    scene = Image.new("RGB", (600, 300), tiny_version.COLOURS["blue"])
    scene.paste(tiny_version.COLOURS["green"], (300, 0, 600, 300))
    content = io.BytesIO()
    scene.save(content, "JPEG")
    searcher = Searcher(encoder, collection, None, RankingRecipe())
    for region, found in ((Region(0, 0, 0.5, 1), "blue"), (Region(0.55, 0.2, 0.2, 0.3), "green")):
        answer = searcher.search([content.getvalue()], Wanted(1), region)
        assert [hit.item_id for hit in answer.hits] == [found]


def test_words_find_items_and_join_a_photo(encoder: OnnxQueryEncoder, collection: Collection) -> None:
    searcher = Searcher(encoder, collection, None, RankingRecipe())
    [hit] = searcher.search([], Wanted(5, text="GREEN thing, please", filters=Filters(price_max=2.0))).hits[
        :1
    ]
    assert hit.item_id == "green" and hit.score_parts["words"] == 1.0
    assert searcher.search([], Wanted(5, text="warm")).hits[0].attributes["shade"] == "warm"
    assert searcher.search([], Wanted(5, text="unheard of")).hits == []
    both = searcher.search([tiny_version.photo("red")], Wanted(5, text="yellow"))
    assert {hit.item_id for hit in both.hits[:2]} == {"red", "yellow"}
    for hit in both.hits:
        assert hit.score == pytest.approx(sum(hit.score_parts.values()))
    like = searcher.more_like("red", Wanted(2, text="blue"))
    assert like is not None and like.hits[0].item_id == "blue"


class WaitsForWords:
    """An encoder that encodes a photo once the index is asked for words."""

    def __init__(self, encoder: OnnxQueryEncoder, collection: Collection) -> None:
        self._encoder, self._collection = encoder, collection
        self._asked = threading.Event()

    def encode_with_texture(self, picture: Image.Image) -> tuple[FloatArray, FloatArray | None]:
        assert self._asked.wait(20), "the words are searched for afterwards"
        return self._encoder.encode_with_texture(picture)

    def matching_ids(self, text: str, k: int, filters: Sequence[Filters]) -> list[list[int]]:
        self._asked.set()
        return self._collection.matching_ids(text, k, filters)

    def decode(self, photo: bytes, region: Region | None = None) -> Image.Image:
        return self._encoder.decode(photo, region)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._collection, name)


def test_words_are_searched_for_while_a_photo_is_encoded(
    encoder: OnnxQueryEncoder, collection: Collection
) -> None:
    waits = WaitsForWords(encoder, collection)
    wanted = Wanted(5, text="yellow")
    beside = Searcher(waits, cast("Collection", waits), None, RankingRecipe())
    answer = beside.search([tiny_version.photo("red")], wanted)
    one_by_one = Searcher(encoder, collection, None, RankingRecipe())
    following = one_by_one.page(answer.embedding_D, wanted, Cursor())
    assert answer.hits == following.hits and answer.stage_ms.keys() >= {"encode", "retrieve"}
    with pytest.raises(ImageError):
        beside.search([b"broken"], wanted)


@pytest.mark.parametrize("photos", [[], [tiny_version.photo("red")]], ids=["words", "both"])
@pytest.mark.parametrize("group_by", [None, "shade"])
def test_pages_of_a_text_search_repeat_nothing(
    encoder: OnnxQueryEncoder, collection: Collection, photos: list[bytes], group_by: str | None
) -> None:
    searcher, wanted = (
        Searcher(encoder, collection, None, RankingRecipe(), 1),
        Wanted(1, EVERYTHING, group_by, "thing"),
    )
    answer = searcher.search(photos, wanted)
    seen = list(answer.hits)
    while answer.following is not None:
        answer = searcher.page(answer.embedding_D, wanted, answer.following)
        assert answer.hits, "no page is empty"
        seen += answer.hits
    assert len({hit.item_id for hit in seen}) == len(seen) == (5 if group_by is None else 3)


@pytest.mark.parametrize("learned_dim", [0, tiny_version.DIM])
def test_matches_are_of_photos_alone(
    encoder: OnnxQueryEncoder, collection: Collection, learned_dim: int
) -> None:
    size = tiny_version.DIM
    domain = PhotoDomain(0, np.zeros(size, np.float32), np.eye(size, dtype=np.float32), farthest=2.0)
    rule = MatchRule(exact_from=0.9995, similar_from=-1.0, domain=domain, learned_dim=learned_dim)
    searcher = Searcher(encoder, collection, None, RankingRecipe(), match_rule=rule)
    photos = [tiny_version.photo("red")]
    answer = searcher.search(photos, Wanted(2))
    assert [hit.match for hit in answer.hits] == ["exact", "similar"]
    assert answer.match == "exact"
    assert answer.following is not None
    assert searcher.page(answer.embedding_D, Wanted(2), answer.following).match == "similar"
    assert searcher.search(photos, Wanted(2, Filters("Nowhere"))).match == "none"
    like = searcher.more_like("red", Wanted(2))
    for unknown in (searcher.search(photos, Wanted(2, text="red")), like):
        assert unknown is not None and unknown.match is None and unknown.hits[0].match is None
    assert Searcher(encoder, collection, None, RankingRecipe()).search(photos, Wanted(2)).match is None


def test_nothing_matches_a_photo_of_another_texture_on_any_page(
    tmp_path: Path, collection: Collection
) -> None:
    encoder = OnnxQueryEncoder(tiny_version.write_files(tmp_path, textures=True))
    even_T = encoder.encode_with_texture(Image.new("RGB", (48, 40), tiny_version.COLOURS["red"]))[1]
    assert even_T is not None
    domain = PhotoDomain(None, even_T, np.eye(len(even_T), dtype=np.float32), farthest=2.0)
    rule = MatchRule(exact_from=0.9, similar_from=-1.0, domain=domain)
    searcher = Searcher(encoder, collection, None, RankingRecipe(), match_rule=rule)
    noise, content = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8), io.BytesIO()
    Image.fromarray(noise).save(content, "PNG")
    for photo, match in ((tiny_version.photo("red"), "similar"), (content.getvalue(), "none")):
        first = searcher.search([photo], Wanted(2))
        assert first.following is not None
        assert searcher.page(first.embedding_D, Wanted(2), first.following).match == match


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> TextQueryEncoder:
    folder = tiny_version.write_files(tmp_path_factory.mktemp("version"))
    tiny_version.write_text_encoder(folder)
    return TextQueryEncoder(folder)


def test_words_are_also_found_by_their_embedding(
    encoder: OnnxQueryEncoder, collection: Collection, texts: TextQueryEncoder
) -> None:
    plain = Searcher(encoder, collection, None, RankingRecipe())
    dense = Searcher(encoder, collection, None, RankingRecipe(), texts=texts)
    assert [hit.item_id for hit in plain.search([], Wanted(5, text="blue")).hits] == ["blue"]
    answer = dense.search([], Wanted(5, text="blue"))
    assert answer.hits[0].item_id == "blue" and len(answer.hits) == 5
    assert answer.hits[0].score_parts["embedding"] == answer.hits[0].score_parts["words"] == 0.5
    assert "encode" in answer.stage_ms
    pages = [dense.search([], Wanted(2, text="blue"))]
    while pages[-1].following is not None:
        pages.append(dense.page(pages[-1].embedding_D, Wanted(2, text="blue"), pages[-1].following))
    assert [hit.item_id for page in pages for hit in page.hits] == [hit.item_id for hit in answer.hits]


@pytest.mark.parametrize(("weight", "first"), [(0.0, "red"), (1.0, "blue")])
def test_a_photo_and_a_text_are_added_by_weight(
    encoder: OnnxQueryEncoder, collection: Collection, texts: TextQueryEncoder, weight: float, first: str
) -> None:
    recipe = RankingRecipe(text_weight=weight, words_weight=0.0)
    searcher = Searcher(encoder, collection, None, recipe, texts=texts)
    photo = [tiny_version.photo("red")]
    assert searcher.search(photo, Wanted(1, text="blue")).hits[0].item_id == first
    like_red = searcher.more_like("red", Wanted(1, text="blue"))
    assert like_red is not None and like_red.hits[0].item_id != "red"
    assert (like_red.hits[0].item_id == "blue") == (weight == 1.0)


def test_a_sum_that_cancels_out_searches_with_the_photo(
    encoder: OnnxQueryEncoder, collection: Collection
) -> None:
    class Opposite:
        def encode(self, text: str) -> FloatArray:
            return -encoder.encode([encoder.decode(tiny_version.photo("red"))])[0]

    recipe = RankingRecipe(text_weight=0.5, words_weight=0.0)
    searcher = Searcher(encoder, collection, None, recipe, texts=Opposite())
    assert searcher.search([tiny_version.photo("red")], Wanted(1, text="x")).hits[0].item_id == "red"
