"""The same cases on every vector index: local mode, Qdrant Edge, and a server.

The server is the one at IMMR_TEST_QDRANT_URL, or else a stand-in with the same HTTP interface.
"""

import dataclasses
import os
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import numpy as np
import pytest

from immr.errors import IndexMismatchError
from immr.index.documents import point_id
from immr.index.engines import client
from immr.index.qdrant import QdrantIndex
from immr.index.vector_index import EVERYTHING, Changes
from immr.types import Condition, Facet, Filters, Item, ModelVersion
from tests.support import qdrant_process

ENGINES = ("file", "edge", "edge-int8", "server")
DIM = 16
ROWS = 300
BRANDS = ["Nike", "Adidas", "Ærø & Søn: 1/2", None]
CATEGORIES = ["Fruit/Apple", "Fruit/Pear", "Packages/Milk", "Packages/Milk/Oat", "Packages/Milkshake"]


@pytest.fixture(scope="module")
def server():
    if url := os.environ.get("IMMR_TEST_QDRANT_URL"):
        yield url
    else:
        with qdrant_process.empty() as stand_in, pytest.MonkeyPatch.context() as patch:
            patch.setattr(client, "_POLL_S", 0.01)  # the stand-in has no optimizers to wait for
            yield stand_in


def url_of(engine, folder, request):
    if engine == "server":
        return request.getfixturevalue("server")
    if engine == "edge-int8":
        return f"edge://{folder}/index?quantization=int8"
    return f"{engine}://{folder}/index"


@pytest.fixture(params=ENGINES)
def url(request, tmp_path):
    return url_of(request.param, tmp_path, request)


@pytest.fixture
def index(url):
    return QdrantIndex(url)


def new_version():
    return ModelVersion(f"t{uuid.uuid4().hex[:8]}", 1, "key", "run", DIM, "prep", "manifest", "concept")


@pytest.fixture
def version():
    return new_version()


@pytest.fixture(scope="module")
def items():
    when = datetime(2025, 1, 1, tzinfo=UTC)
    return [
        Item(
            item_id=f"i{n}",
            title=f"title {n}",
            description="text",
            category=CATEGORIES[n % 5],
            image=f"{n}.jpg",
            price=1.0 + n,
            updated_at=when,
            attributes={
                "size": 30.0 + n % 7,
                **({"brand": brand} if (brand := BRANDS[n % 4]) else {}),
                **({"tags": tags} if (tags := tags_of(f"i{n}")) else {}),
            },
        )
        for n in range(ROWS)
    ]


def tags_of(item_id):
    number = int(item_id[1:])
    return ["sale", "Été"][: 1 + number % 2] if number % 5 == 1 else []


def brand_of(item_id):
    return BRANDS[int(item_id[1:]) % 4]


def size_of(item_id):
    return 30.0 + int(item_id[1:]) % 7


@pytest.fixture(scope="module")
def embeddings_ND():
    vectors = np.random.default_rng(7).normal(size=(ROWS, DIM)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(scope="module", params=ENGINES)
def collection(request, tmp_path_factory, items, embeddings_ND):
    """For tests that only read it: built once on each engine."""
    index = QdrantIndex(url_of(request.param, tmp_path_factory.mktemp("read"), request))
    version = new_version()
    index.build(version, items, embeddings_ND)
    collection = index.open(version.id, DIM, "prep")
    yield collection
    collection.close()


@pytest.fixture
def own_collection(index, version, items, embeddings_ND):
    index.build(version, items, embeddings_ND)
    collection = index.open(version.id, DIM, "prep", version.manifest_hash)
    yield collection
    collection.close()


def test_a_build_reports_points_and_recall(index, version, items, embeddings_ND):
    report = index.build(version, items, embeddings_ND)
    assert report.collection == f"immr_{version.id}"
    assert (report.points, report.reused) == (ROWS, False)
    assert report.recall_at_10 >= 0.98


def test_the_same_documents_are_reused_and_changed_ones_are_not(index, version, items, embeddings_ND):
    first = index.build(version, items, embeddings_ND)
    again = index.build(version, items[::-1], embeddings_ND[::-1])
    assert again == dataclasses.replace(first, reused=True)
    changed = [dataclasses.replace(items[0], title="another title"), *items[1:]]
    assert not index.build(version, changed, embeddings_ND).reused
    collection = index.open(version.id, DIM, "prep")
    assert collection.item("i0").title == "another title"
    assert collection.count() == ROWS
    collection.close()
    assert not index.build(version, items[:-1], embeddings_ND[:-1]).reused
    assert index.build(version, items[:-1], embeddings_ND[:-1]).points == ROWS - 1


def test_search_finds_the_exact_neighbours(collection, items, embeddings_ND):
    query_D = embeddings_ND[42]
    similarities_N = embeddings_ND @ query_D
    best = np.argsort(-similarities_N)[:5]
    found = collection.search(query_D, 5)
    assert [candidate.item_id for candidate in found] == [items[row].item_id for row in best]
    assert [candidate.cosine for candidate in found] == pytest.approx(similarities_N[best], abs=1e-5)
    assert (found[0].title, found[0].image, found[0].category) == ("title 42", "42.jpg", items[42].category)


@pytest.mark.parametrize(
    ("category", "kept"),
    [
        ("Fruit", {"Fruit/Apple", "Fruit/Pear"}),
        ("Packages/Milk", {"Packages/Milk", "Packages/Milk/Oat"}),
        ("Packages/Milk/", {"Packages/Milk", "Packages/Milk/Oat"}),
        ("Packages/Milkshake", {"Packages/Milkshake"}),
        ("Mil", set()),
        ("", set(CATEGORIES)),
    ],
)
def test_a_category_filter_matches_the_path_and_its_subcategories(collection, embeddings_ND, category, kept):
    found = collection.search(embeddings_ND[0], ROWS, Filters(category))
    assert {candidate.category for candidate in found} == kept
    assert len(found) == ROWS // 5 * len(kept)


@pytest.mark.parametrize(
    ("filters", "prices"),
    [
        (Filters(price_min=290.0), range(290, 301)),
        (Filters(price_max=3.0), range(1, 4)),
        (Filters(price_min=10.0, price_max=20.0), range(10, 21)),
        (Filters("Fruit/Apple", 10.0, 20.0), (11, 16)),
        (Filters(price_min=20.0, price_max=10.0), ()),
        (Filters(price_max=3.0, exclude="i1"), (1, 3)),
    ],
)
def test_price_filters_are_inclusive(collection, items, embeddings_ND, filters, prices):
    found = collection.search(embeddings_ND[0], ROWS, filters)
    price_of = {item.item_id: item.price for item in items}
    assert sorted(price_of[candidate.item_id] for candidate in found) == [float(price) for price in prices]


@pytest.mark.parametrize(
    ("conditions", "passes"),
    [
        ([Condition("brand", ("Nike",))], lambda id: brand_of(id) == "Nike"),
        ([Condition("brand", ("Nike", "Ærø & Søn: 1/2"))], lambda id: brand_of(id) in ("Nike", BRANDS[2])),
        ([Condition("brand", ("Nike",), negated=True)], lambda id: brand_of(id) != "Nike"),
        ([Condition("brand", ("nike",))], lambda id: False),
        ([Condition("tags", ("sale",))], lambda id: "sale" in tags_of(id)),
        ([Condition("tags", ("Été", "new"))], lambda id: "Été" in tags_of(id)),
        ([Condition("tags", ("Été",), negated=True)], lambda id: "Été" not in tags_of(id)),
        ([Condition("size", ranges=((31.0, 32.0),))], lambda id: size_of(id) in (31, 32)),
        ([Condition("size", ranges=((None, 30.0), (36.0, None)))], lambda id: size_of(id) in (30, 36)),
        ([Condition("size", ranges=((31.0, None),), negated=True)], lambda id: size_of(id) == 30),
        (
            [Condition("brand", ("Nike",)), Condition("size", ranges=((33.0, 33.0),))],
            lambda id: brand_of(id) == "Nike" and size_of(id) == 33,
        ),
        ([Condition("category", ("Fruit/", "Packages/Milk/Oat"))], lambda id: int(id[1:]) % 5 in (0, 1, 3)),
        ([Condition("category", ("Packages/Milk",), exact=True)], lambda id: int(id[1:]) % 5 == 2),
        (
            [Condition("category", ("Fruit/Apple", "Packages/Milk/Oat", "Fruit"), exact=True)],
            lambda id: int(id[1:]) % 5 in (0, 3),
        ),
        (
            [Condition("category", ("Packages/Milk",), negated=True, exact=True)],
            lambda id: int(id[1:]) % 5 != 2,
        ),
        ([Condition("price", ranges=((2.0, 3.0),))], lambda id: id in ("i1", "i2")),
    ],
)
def test_conditions_on_attributes(collection, items, embeddings_ND, conditions, passes):
    found = collection.search(embeddings_ND[0], ROWS, Filters(conditions=tuple(conditions)))
    wanted = [item for item in items if passes(item.item_id)]
    assert sorted(candidate.item_id for candidate in found) == sorted(item.item_id for item in wanted)
    attributes = {item.item_id: item.attributes for item in wanted}
    assert all(candidate.attributes == attributes[candidate.item_id] for candidate in found)


def matching(collection, text, k=ROWS, filters=EVERYTHING):
    [ids] = collection.matching_ids(text, k, [filters])
    read = collection.candidates(dict.fromkeys(ids, 0.0))
    return [read[id].item_id for id in ids]


def test_words_match_titles_categories_and_keywords(collection):
    def found(text, k=ROWS, filters=EVERYTHING):
        return matching(collection, text, k, filters)

    assert found("title 42", 1) == ["i42"]
    assert sorted(found("NIKE")) == sorted(f"i{n}" for n in range(0, ROWS, 4))
    assert sorted(found("ete")) == sorted(f"i{n}" for n in range(ROWS) if "Été" in tags_of(f"i{n}"))
    assert sorted(found("søn nowhere")) == sorted(f"i{n}" for n in range(2, ROWS, 4))
    assert sorted(found("oat", filters=Filters(price_max=10.0))) == ["i3", "i8"]
    assert found("142 7", 2) in (["i142", "i7"], ["i7", "i142"]), "a rare word counts more than none"
    assert found("oat 8")[0] == "i8", "both words count more than one"
    assert found("", 5) == found("?!", 5) == found("unheardof", 5) == []
    words_of_brand = {"Nike": 1, "Adidas": 1, "Ærø & Søn: 1/2": 4, None: 0}
    by_length_then_id = sorted(
        (f"i{n}" for n in range(3, ROWS, 5)), key=lambda id: (words_of_brand[brand_of(id)], point_id(id))
    )
    assert found("oat") == by_length_then_id
    assert found("oat", 20) == found("oat")[:20]


def test_documents_are_found_by_id_first_and_then_read(collection, embeddings_ND):
    filters = Filters(price_max=10.0)
    whole = collection.search(embeddings_ND[3], 7, filters)
    [cosines] = collection.similar_ids(embeddings_ND[3], 7, [filters])
    read = collection.candidates(cosines)
    assert [read[id].item_id for id in cosines] == [each.item_id for each in whole]
    assert [read[id].cosine for id in cosines] == pytest.approx([each.cosine for each in whole])
    [ids] = collection.matching_ids("oat", ROWS, [filters])
    read = collection.candidates(dict.fromkeys([*ids, uuid.uuid4().int], 0.0))
    assert {read[id].item_id for id in ids} == {"i3", "i8"} and len(read) == 2
    assert (
        collection.matching_ids("?!", 5, [filters, filters]) == [[], []] and collection.candidates({}) == {}
    )


def test_one_request_searches_with_each_of_several_filters(collection, embeddings_ND):
    each = [Filters(price_max=10.0), EVERYTHING, Filters("Nowhere"), Filters("Packages/Milk")]
    for found, filters in zip(collection.similar_ids(embeddings_ND[3], 4, each), each, strict=True):
        whole = collection.search(embeddings_ND[3], 4, filters)
        assert [each.item_id for each in whole] == [
            each.item_id for each in map(collection.candidates(found).get, found)
        ]
    alone = [collection.matching_ids("milk 7", 4, [filters])[0] for filters in each]
    assert collection.matching_ids("milk 7", 4, each) == alone
    assert list(map(len, alone)) == [4, 4, 0, 4]


def test_words_follow_changes(index, version, own_collection, items, embeddings_ND):
    renamed = dataclasses.replace(items[0], title="Zanzibar")
    index.change(version, _changes([renamed], embeddings_ND[:1], deleted=["i42"]))
    own_collection.refresh()
    assert matching(own_collection, "zanzibar") == ["i0"]
    assert matching(own_collection, "42") == []
    assert own_collection.embedding("i0") == pytest.approx(embeddings_ND[0], abs=1e-6)


def test_facets_count_all_documents_that_pass(collection):
    assert collection.attributes == {
        "category": "keyword",
        "price": "number",
        "brand": "keyword",
        "size": "number",
        "tags": "keywords",
    }
    assert collection.facet("tags") == Facet({"sale": 60, "Été": 30})
    summer = Filters(conditions=(Condition("tags", ("Été",)),))
    assert collection.facet("tags", summer) == Facet({"sale": 30, "Été": 30})
    assert collection.facet("brand") == Facet(dict.fromkeys(sorted(BRANDS[:3]), 75))
    small = Filters(conditions=(Condition("size", ranges=((None, 30.0),)),))
    counts = collection.facet("brand", small).counts
    sizes = [n for n in range(ROWS) if n % 7 == 0]
    assert counts == {brand: sum(BRANDS[n % 4] == brand for n in sizes) for brand in BRANDS[:3]}
    assert list(counts.values()) == sorted(counts.values(), reverse=True)
    assert collection.facet("category", Filters("Fruit")).counts == {
        "Fruit": 120,
        "Fruit/Apple": 60,
        "Fruit/Pear": 60,
    }
    assert collection.facet("size") == Facet({}, 30.0, 36.0)
    assert collection.facet("price", Filters("Fruit/Apple")) == Facet({}, 1.0, 296.0)
    assert collection.facet("price", Filters("Nowhere")) == Facet()
    assert collection.facet("brand", Filters("Nowhere")) == Facet()


def test_pages_join_up_to_the_whole_result(collection, embeddings_ND):
    whole = collection.search(embeddings_ND[3], 30)
    pages = [collection.search(embeddings_ND[3], 10, offset=offset) for offset in (0, 10, 20)]
    assert [found.item_id for page in pages for found in page] == [found.item_id for found in whole]


def test_the_embedding_of_an_item_is_returned(collection, embeddings_ND):
    assert collection.embedding("i7") == pytest.approx(embeddings_ND[7], abs=1e-6)
    assert collection.embedding("no such item") is None
    found = collection.embeddings(["i7", "no such item", "i9"])
    assert {item_id: rows_PD.shape for item_id, rows_PD in found.items()} == {"i7": (1, DIM), "i9": (1, DIM)}
    assert found["i9"][0] == pytest.approx(embeddings_ND[9], abs=1e-6)
    assert collection.embeddings([]) == {}


def _changes(items, embeddings_ND, deleted=(), first=1):
    return Changes(items, embeddings_ND, deleted, range(first, first + len(items) + len(deleted)))


def test_changes_reach_an_open_collection_and_may_be_repeated(
    index, version, own_collection, items, embeddings_ND
):
    new = dataclasses.replace(items[0], item_id="new", price=5000.0)
    dearer = dataclasses.replace(items[1], price=6000.0)
    changes = _changes([new, dearer], -embeddings_ND[:2], deleted=["i2", "never there"])
    for _ in range(2):
        index.change(version, changes)
        own_collection.refresh()
        assert own_collection.count() == ROWS
        assert own_collection.item("i2") is None
        best = own_collection.search(-embeddings_ND[0], 1)[0]
        assert (best.item_id, best.cosine) == ("new", pytest.approx(1.0, abs=1e-5))
        found = own_collection.search(-embeddings_ND[1], 5, Filters(price_min=5500.0))
        assert [candidate.item_id for candidate in found] == ["i1"]


def test_changes_wait_until_the_collection_is_opened(index, version, items, embeddings_ND):
    index.build(version, items, embeddings_ND)
    index.change(version, _changes([dataclasses.replace(items[0], title="first")], embeddings_ND[:1]))
    index.change(
        version, _changes([dataclasses.replace(items[0], title="second")], embeddings_ND[:1], first=2)
    )
    index.change(version, _changes([], embeddings_ND[:0], deleted=["i1"], first=3))
    collection = index.open(version.id, DIM, "prep")
    assert (collection.item("i0").title, collection.item("i1")) == ("second", None)
    collection.close()
    assert index.applied(version.id) in (3, None)


def test_a_new_build_keeps_later_changes(index, version, items, embeddings_ND):
    index.build(version, items, embeddings_ND)
    index.change(version, _changes([], embeddings_ND[:0], deleted=["i1"]))
    index.change(version, _changes([], embeddings_ND[:0], deleted=["i2"], first=2))
    kept = [row for row in range(ROWS) if row != 1]
    report = index.build(version, [items[row] for row in kept], embeddings_ND[kept], sequence=1)
    assert report.sequence == 1
    index.change(
        version, _changes([], embeddings_ND[:0], deleted=["i2"], first=2)
    )  # repeated, like by the outbox
    collection = index.open(version.id, DIM, "prep")
    assert (collection.count(), collection.item("i2")) == (ROWS - 2, None)
    collection.close()


def test_an_open_collection_learns_the_attributes_and_the_search_width_of_a_new_build(
    index, version, own_collection, items, embeddings_ND, monkeypatch
):
    monkeypatch.setattr("immr.index.collection._LOOK_EVERY_S", 0.0)
    monkeypatch.setattr("immr.index.build.HNSW_EFS", (96,))
    coloured = [
        dataclasses.replace(item, attributes={**item.attributes, "colour": "red"}, price=2.0)
        for item in items
    ]
    index.build(version, coloured, embeddings_ND)
    assert own_collection.refresh() == 0
    assert own_collection.attributes["colour"] == "keyword"
    assert own_collection.binding.hnsw_ef == 96
    assert own_collection.facet("colour") == Facet({"red": ROWS})
    assert own_collection.count() == ROWS


def test_a_content_changed_since_its_build_is_not_reused(index, version, items, embeddings_ND):
    index.build(version, items, embeddings_ND)
    sale = dataclasses.replace(items[0], title="SALE")
    index.change(version, _changes([sale], embeddings_ND[:1], deleted=["i1"]))
    index.open(version.id, DIM, "prep").close()  # embedded engines apply them now
    as_before = index.build(version, items, embeddings_ND, sequence=2)
    assert not as_before.reused
    collection = index.open(version.id, DIM, "prep")
    assert (collection.item("i0").title, collection.item("i1").title) == ("title 0", "title 1")
    assert collection.count() == ROWS
    collection.close()
    again = index.build(version, items, embeddings_ND, sequence=2)
    assert again == dataclasses.replace(as_before, reused=True)


def test_a_change_needs_a_finished_collection_of_its_dimension(index, version, items, embeddings_ND):
    with pytest.raises(IndexMismatchError, match=f"no finished collection immr_{version.id}"):
        index.change(version, _changes(items[:1], embeddings_ND[:1]))
    index.build(version, items, embeddings_ND)
    with pytest.raises(IndexMismatchError, match=f"{version.id} has {DIM} dimensions"):
        index.change(version, _changes(items[:1], embeddings_ND[:1, :8]))


def test_collections_are_listed_and_removed(index, version, items, embeddings_ND):
    index.build(version, items, embeddings_ND)
    assert version.id in index.versions()
    assert index.remove(version.id)
    assert version.id not in index.versions()
    with pytest.raises(IndexMismatchError, match="no finished collection"):
        index.open(version.id, DIM, "prep")


def test_item_by_id(collection):
    found = collection.item("i7")
    assert (found.item_id, found.title, found.cosine) == ("i7", "title 7", 1.0)
    assert collection.item("no such item") is None


def test_asking_for_more_than_exist_returns_all(collection, embeddings_ND):
    assert len(collection.search(embeddings_ND[0], 10 * ROWS)) == ROWS


def test_threads_can_search_at_the_same_time(collection, items, embeddings_ND):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda row: collection.search(embeddings_ND[row], 3)[0].item_id, range(60)))
    assert found == [items[row].item_id for row in range(60)]


def test_opening_with_another_dimension_or_preprocessing_is_a_mismatch(index, version, own_collection):
    with pytest.raises(
        IndexMismatchError, match=rf"dim {DIM}, but .* dim 8\. .* run `immr index build TRAINING_SET --model"
    ):
        index.open(version.id, 8, "prep")
    with pytest.raises(IndexMismatchError, match=r"preprocessing prep, but .* preprocessing other"):
        index.open(version.id, DIM, "other")
    with pytest.raises(IndexMismatchError, match=rf"shape \(8,\).*{DIM} dimensions"):
        own_collection.search(np.ones(8, dtype=np.float32), 1)


def test_a_collection_is_not_replaced_by_that_of_another_encoder(
    index, version, own_collection, items, embeddings_ND
):
    """Two registries with one index: a server's running processes searched the other's documents at once."""
    for other in (
        dataclasses.replace(version, preprocessing_hash="other"),
        dataclasses.replace(version, dim=8),
        dataclasses.replace(version, manifest_hash="of another shop"),
    ):
        cut_ND = embeddings_ND[:, : other.dim]
        with pytest.raises(IndexMismatchError, match=r"another registry: set IMMR_INDEX_URL .*delete it"):
            index.build(other, items, cut_ND / np.linalg.norm(cut_ND, axis=1, keepdims=True))
    own_collection.refresh()
    assert own_collection.search(embeddings_ND[0], 1)[0].item_id == "i0"


def test_a_version_of_another_registry_with_the_same_id_neither_searches_nor_changes_a_collection(
    index, version, own_collection, items, embeddings_ND
):
    """Two shops with the same recipe differ in nothing but their training sets."""
    other = dataclasses.replace(version, manifest_hash="of another shop")
    with pytest.raises(IndexMismatchError, match=r"built for training set .* another registry"):
        index.open(other.id, DIM, "prep", other.manifest_hash)
    with pytest.raises(IndexMismatchError, match="another registry"):
        index.change(other, Changes([items[0]], embeddings_ND[:1], [], [1]))
    found = index.content(version.id)
    assert found.is_of(version) and not found.is_of(other)


def test_opening_a_version_without_a_collection_is_a_mismatch(index, version):
    with pytest.raises(IndexMismatchError, match=f"no finished collection immr_{version.id}"):
        index.open(version.id, DIM, "prep")


def test_embeddings_of_another_dimension_are_refused(index, version, items, embeddings_ND):
    with pytest.raises(IndexMismatchError, match=f"{version.id} has {DIM} dimensions"):
        index.build(version, items, embeddings_ND[:, :8])


@pytest.fixture
def with_pictures(index, version, items, embeddings_ND):
    """The first 40 items have a second picture, which is that of item n + 100; the others have one."""
    rows = [row for n in range(ROWS) for row in ([n, n + 100] if n < 40 else [n])]
    pictures_N = [2 if n < 40 else 1 for n in range(ROWS)]
    report = index.build(version, items, embeddings_ND[rows], pictures_N=pictures_N)
    assert report.points == ROWS and report.recall_at_10 >= 0.98
    collection = index.open(version.id, DIM, "prep")
    yield collection
    collection.close()


def test_an_item_of_several_pictures_is_found_by_the_best(with_pictures, embeddings_ND):
    found = with_pictures.search(embeddings_ND[107], 5)
    assert {found[0].item_id, found[1].item_id} == {"i7", "i107"}
    assert [hit.cosine for hit in found[:2]] == pytest.approx([1, 1], abs=1e-3)
    exact_N = embeddings_ND @ embeddings_ND[107]
    exact_N[:40] = np.maximum(exact_N[:40], exact_N[100:140])
    assert [hit.cosine for hit in found] == pytest.approx(sorted(exact_N)[: -len(found) - 1 : -1], abs=1e-2)
    assert with_pictures.search(embeddings_ND[7], 1)[0].item_id == "i7"


def test_an_item_of_several_pictures_is_one_document(with_pictures, embeddings_ND):
    pages = [with_pictures.search(embeddings_ND[107], 50, offset=start) for start in range(0, ROWS, 50)]
    found = [hit.item_id for page in pages for hit in page]
    assert len(found) == len(set(found)) == with_pictures.count() == ROWS
    assert with_pictures.facet("price").largest == float(ROWS)
    assert sum(with_pictures.facet("brand").counts.values()) == ROWS * 3 // 4
    assert matching(with_pictures, "title 7", 1) == ["i7"]
    assert with_pictures.embedding("i7") == pytest.approx(embeddings_ND[7], abs=1e-2)  # of the main picture
    others = with_pictures.search(embeddings_ND[107], 5, Filters(exclude="i7"))
    assert others[0].item_id == "i107" and "i7" not in [hit.item_id for hit in others]


def test_items_of_several_pictures_are_changed_and_deleted(
    with_pictures, index, version, items, embeddings_ND
):
    def found(row):
        return {hit.item_id for hit in with_pictures.search(embeddings_ND[row], 2)}

    new = dataclasses.replace(items[0], item_id="new", title="new")
    changed = dataclasses.replace(items[1], title="one picture")
    index.change(version, Changes([new, changed], embeddings_ND[[200, 201, 1]], ["i2"], [1, 2, 3], [2, 1]))
    with_pictures.refresh()
    assert with_pictures.count() == ROWS
    assert {"new", "i200"} == found(200) and {"new", "i201"} == found(201)
    assert "i1" in found(1) and "i1" not in found(101)
    assert "i2" not in found(2) and "i2" not in found(102)
    assert with_pictures.item("i1").title == "one picture"


def test_a_collection_of_one_picture_each_keeps_the_main_picture_of_a_change(
    own_collection, index, version, items, embeddings_ND, caplog
):
    new = dataclasses.replace(items[0], item_id="new", title="new")
    index.change(version, Changes([new], embeddings_ND[[200, 201]], [], [1], [2]))
    own_collection.refresh()
    assert "run `immr index build" in caplog.text
    assert "new" in [hit.item_id for hit in own_collection.search(embeddings_ND[200], 2)]
    assert "new" not in [hit.item_id for hit in own_collection.search(embeddings_ND[201], 2)]
