"""What embedded engines and connections add to the contract: locks, crashes, servers that are down."""

import dataclasses
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from immr.errors import IndexMismatchError, IndexUnavailableError, SettingsError
from immr.index.change_journal import ChangeJournal
from immr.index.engines.client import ClientEngine
from immr.index.qdrant import QdrantIndex
from immr.index.vector_index import Changes
from immr.settings import Settings
from immr.types import Item, ModelVersion
from immr.wiring import connect
from tests.index import dying_build
from tests.support import qdrant_process
from tests.support.patience import until

VERSION = ModelVersion("immr", 3, "key", "run", 4, "prep", "manifest", "concept")
EMBEDDINGS_ND = np.eye(4, dtype=np.float32)
REPOSITORY = Path(__file__).parents[2]

HOLD = """
import select, sys
from immr.index.qdrant import QdrantIndex
collection = QdrantIndex(sys.argv[1]).open("immr-3", int(sys.argv[2]), "prep")
print("held", flush=True)
while not select.select([sys.stdin], [], [], 0.02)[0]:
    collection.refresh()
"""


def _items(price=1.5):
    when = datetime(2025, 1, 1, tzinfo=UTC)
    return [Item(f"i{n}", f"title {n}", "text", "Fruit/Apple", f"{n}.jpg", price, when) for n in range(4)]


# both engines keep their folders in the same storage; the contract runs on all of them
@pytest.fixture(params=[pytest.param("file", marks=pytest.mark.slow), "edge"])
def url(request, tmp_path):
    return f"{request.param}://{tmp_path}/index"


def _hold_elsewhere(url, dim=4):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, url, str(dim)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_a_held_folder_names_its_holder_and_is_free_once_the_holder_is_killed(url):
    index = QdrantIndex(url)
    index.build(VERSION, _items(), EMBEDDINGS_ND)
    with _hold_elsewhere(url) as process:
        with pytest.raises(IndexUnavailableError, match=f"held by process {process.pid}"):
            index.open("immr-3", 4, "prep")
        assert index.build(VERSION, _items(), EMBEDDINGS_ND).reused  # takes no lock
        os.kill(process.pid, signal.SIGKILL)
    index.open("immr-3", 4, "prep").close()


def test_the_serving_process_switches_to_a_new_content(url, tmp_path):
    index = QdrantIndex(url)
    index.build(VERSION, _items(), EMBEDDINGS_ND)
    with _hold_elsewhere(url) as process:
        assert not index.build(VERSION, _items(price=9.0), EMBEDDINGS_ND).reused
        index.change(VERSION, Changes([], EMBEDDINGS_ND[:0], ["i0"], [1]))

        def is_old_content_deleted():  # by the next build once no process holds it
            assert index.build(VERSION, _items(price=9.0), EMBEDDINGS_ND).reused
            return len(_contents(tmp_path)) == 1

        until(is_old_content_deleted)
        assert index.applied("immr-3") == 1
        with pytest.raises(IndexUnavailableError, match=f"held by process {process.pid}"):
            index.open("immr-3", 4, "prep")
        process.stdin.close()
    with closing(index.open("immr-3", 4, "prep")) as collection:
        assert collection.count() == 3


def test_searches_continue_while_contents_are_replaced(url):
    index = QdrantIndex(url)
    items, embeddings_ND = dying_build.documents(price=1.5)
    index.build(dying_build.VERSION, items[:10], embeddings_ND[:10])
    done = threading.Event()

    def shopper(collection):
        searches = 0
        while not done.is_set() or searches < 50:
            assert len(collection.search(embeddings_ND[searches % 50], 5)) == 5
            assert collection.item("i3") is not None
            searches += 1

    with closing(index.open("immr-3", 16, "prep")) as collection, ThreadPoolExecutor(4) as pool:
        shoppers = [pool.submit(shopper, collection) for _ in range(4)]
        try:
            for rows in range(11, 16):
                index.build(dying_build.VERSION, items[:rows], embeddings_ND[:rows])
                index.change(dying_build.VERSION, Changes([], embeddings_ND[:0], ["i0"], [rows]))
                assert collection.refresh() == 1  # the last of them; the new content has none
                assert collection.count() == rows - 1
        finally:
            done.set()
        for each in shoppers:
            each.result()
    assert collection.refresh() == 0  # closed
    index.open("immr-3", 16, "prep").close()


def test_a_new_content_for_another_encoder_is_refused(url, monkeypatch):
    monkeypatch.setattr(QdrantIndex, "_check_encoder", lambda *_: None)  # as in earlier releases
    index = QdrantIndex(url)
    index.build(VERSION, _items(), EMBEDDINGS_ND)
    with closing(index.open("immr-3", 4, "prep")) as collection:
        other = dataclasses.replace(VERSION, preprocessing_hash="other")
        index.build(other, _items(), EMBEDDINGS_ND)
        with pytest.raises(IndexMismatchError, match="preprocessing other"):
            collection.refresh()
        assert collection.count() == 4


def test_the_journal_deletes_changes_that_were_applied_long_ago(url, tmp_path, monkeypatch):
    monkeypatch.setattr("immr.index.collection._CHANGES_KEPT", 5)
    index = QdrantIndex(url)
    index.build(VERSION, _items(), EMBEDDINGS_ND)
    with closing(index.open("immr-3", 4, "prep")) as collection:
        for first in range(1, 21, 4):
            items = [dataclasses.replace(item, item_id=f"{item.item_id}-{first}") for item in _items()]
            index.change(VERSION, Changes(items, EMBEDDINGS_ND, [], range(first, first + 4)))
        assert collection.refresh() == 20
    journal = ChangeJournal(tmp_path / "index" / "immr_immr-3" / "changes.db")
    assert [change.sequence for change in journal.after(0, 100)] == [16, 17, 18, 19, 20]


def _contents(tmp_path):
    return [path for path in (tmp_path / "index" / "immr_immr-3").iterdir() if path.is_dir()]


def test_each_version_has_its_own_folder(url, tmp_path):
    index = QdrantIndex(url)
    index.build(VERSION, _items(), EMBEDDINGS_ND)
    other = ModelVersion("immr", 4, "key2", "run", 4, "prep", "manifest", "concept")
    index.build(other, _items(), EMBEDDINGS_ND)
    with closing(index.open("immr-3", 4, "prep")):
        index.open("immr-4", 4, "prep").close()
    assert sorted(path.name for path in (tmp_path / "index").iterdir()) == ["immr_immr-3", "immr_immr-4"]


@pytest.mark.parametrize(
    ("method", "nth"),
    [
        ("put", 2),
        ("settle", 1),
        ("bind", 1),
        ("publish", 1),
        ("discard_others", 1),
    ],
)
def test_a_killed_build_resumes_and_the_previous_content_serves_meanwhile(url, tmp_path, method, nth):
    index = QdrantIndex(url)
    items, embeddings_ND = dying_build.documents(price=1.5)
    index.build(dying_build.VERSION, items[:10], embeddings_ND[:10])
    serving = index.open("immr-3", 16, "prep")
    command = [sys.executable, "-m", "tests.index.dying_build", url, method, str(nth)]
    assert subprocess.run(command, cwd=REPOSITORY, timeout=120).returncode == -signal.SIGKILL
    assert serving.search(embeddings_ND[3], 1)[0].item_id == "i3"
    serving.close()
    published = method == "discard_others"
    with closing(index.open("immr-3", 16, "prep")) as collection:
        assert collection.count() == (dying_build.ROWS if published else 10)
    report = index.build(dying_build.VERSION, *dying_build.documents(price=9.0))
    assert (report.points, report.reused) == (dying_build.ROWS, method in ("publish", "discard_others"))
    assert report.recall_at_10 >= 0.98
    with closing(index.open("immr-3", 16, "prep")) as collection:
        assert collection.count() == dying_build.ROWS
    assert len(_contents(tmp_path)) == 1


def test_a_holder_killed_while_applying_changes_has_them_all_after_a_restart(url):
    index = QdrantIndex(url)
    items, embeddings_ND = dying_build.documents(price=1.5)
    index.build(dying_build.VERSION, items[:10], embeddings_ND[:10])
    with _hold_elsewhere(url, 16) as process:
        for sequence in range(1, 41):
            row = 9 + sequence
            changes = Changes(items[row : row + 1], embeddings_ND[row : row + 1], [], [sequence])
            index.change(dying_build.VERSION, changes)
            if sequence == 20:
                os.kill(process.pid, signal.SIGKILL)
    with closing(index.open("immr-3", 16, "prep")) as collection:
        assert collection.count() == 50
        assert collection.search(embeddings_ND[49], 1)[0].item_id == "i49"
    assert index.applied("immr-3") == 40


def test_the_serving_process_applies_changes_of_other_processes(url):
    index = QdrantIndex(url)
    items, embeddings_ND = dying_build.documents(price=1.5)
    index.build(dying_build.VERSION, items[:10], embeddings_ND[:10])
    with _hold_elsewhere(url, 16) as process:
        index.change(dying_build.VERSION, Changes(items[10:13], embeddings_ND[10:13], ["i0"], range(1, 5)))
        until(lambda: index.applied("immr-3") == 4)
        assert not index.remove("immr-3")  # it is held
        process.stdin.close()
    with closing(index.open("immr-3", 16, "prep")) as collection:
        assert collection.count() == 12


def test_searches_continue_while_changes_are_applied(url):
    index = QdrantIndex(url)
    items, embeddings_ND = dying_build.documents(price=1.5)
    index.build(dying_build.VERSION, items[:10], embeddings_ND[:10])
    with closing(index.open("immr-3", 16, "prep")) as collection, ThreadPoolExecutor(4) as pool:
        index.change(dying_build.VERSION, Changes(items[10:], embeddings_ND[10:], [], range(1, 41)))
        index.change(dying_build.VERSION, Changes(items[:10], -embeddings_ND[:10], [], range(41, 51)))
        searches = [pool.submit(collection.search, embeddings_ND[n % 50], 5) for n in range(300)]
        assert collection.refresh() == 50
        assert all(len(search.result()) == 5 for search in searches)
        assert collection.search(-embeddings_ND[7], 1)[0].item_id == "i7"


def test_a_server_with_an_api_key_answers_only_with_the_key(tmp_path):
    with qdrant_process.empty(api_key="s3cret") as url:
        key_file = tmp_path / "key"
        settings = Settings(home=tmp_path, index_url=url, index_key_file=key_file)
        with pytest.raises(SettingsError, match=r"IMMR_INDEX_KEY_FILE=.*cannot be read"):
            _ = connect(settings).index
        key_file.write_text("\n")
        with pytest.raises(SettingsError, match="holds no API key"):
            _ = connect(settings).index
        key_file.write_text("s3cret\n")
        index = connect(settings).index
        assert index.build(VERSION, _items(), EMBEDDINGS_ND).points == 4
        with closing(index.open("immr-3", 4, "prep")) as collection:
            assert collection.search(EMBEDDINGS_ND[2], 1)[0].item_id == "i2"
        key_file.write_text("wr0ng")
        for without in (QdrantIndex(url), connect(settings).index):
            with pytest.raises(
                IndexUnavailableError, match=f"{url} refused the API key.*KEY_FILE"
            ) as refused:
                without.versions()
            assert "wr0ng" not in str(refused.value)


def test_a_server_gets_no_request_that_it_refuses(monkeypatch):
    """Qdrant's limit is 32 MB; a thousand items with the 21 pictures that an item may have are 113 MB."""
    client = QdrantClient(":memory:")
    engine = ClientEngine(client, "c", is_local=True)
    engine.create(256, {}, several_pictures=True)
    rows_PD = np.random.default_rng(0).normal(size=(21, 256)).astype(np.float32)
    rows_PD /= np.linalg.norm(rows_PD, axis=1, keepdims=True)
    sizes = []
    upsert = client.upsert

    def counted(name, points, **options):
        sizes.append(len(models.PointsList(points=points).model_dump_json()))
        return upsert(name, points, **options)

    monkeypatch.setattr(client, "upsert", counted)
    ids = list(range(1, 151))
    engine.put(
        ids, [rows_PD] * 150, [{"item_id": str(id), "title": "shoe " * 20, "category": "Shoes"} for id in ids]
    )
    assert engine.count() == 150
    assert len(sizes) == 3 and max(sizes) < 10_000_000
    engine.put([], [], [])
    engine.close()


@pytest.mark.parametrize("scheme", ["http", "https", "file"])
def test_credentials_in_the_url_are_refused_and_not_quoted(scheme):
    with pytest.raises(SettingsError, match="IMMR_INDEX_KEY_FILE") as refused:
        QdrantIndex(f"{scheme}://operator:s3cret@127.0.0.1:6333")
    assert "s3cret" not in str(refused.value) and "operator" not in str(refused.value)


def test_a_server_that_is_down_is_an_error():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening, so connections are refused
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(IndexUnavailableError, match=f"{url} is not available.*IMMR_INDEX_URL"):
            QdrantIndex(url, timeout_s=2).open("immr-3", 4, "prep")
        with pytest.raises(IndexUnavailableError, match="is not available"):
            QdrantIndex(url, timeout_s=2).build(VERSION, _items(), EMBEDDINGS_ND)


@pytest.mark.parametrize("scheme", ["file", "edge"])
def test_a_folder_that_cannot_be_created_is_an_error(tmp_path, scheme):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(IndexUnavailableError, match="is not available"):
        QdrantIndex(f"{scheme}://{tmp_path}/file").build(VERSION, _items(), EMBEDDINGS_ND)


def test_searching_a_closed_collection_is_an_error(url):
    index = QdrantIndex(url)
    index.build(VERSION, _items(), EMBEDDINGS_ND)
    collection = index.open("immr-3", 4, "prep")
    collection.close()
    collection.close()
    with pytest.raises(IndexUnavailableError, match="closed"):
        collection.search(EMBEDDINGS_ND[0], 1)


@pytest.mark.parametrize(
    "url", ["redis://x", "file://", "edge://", "/a/path", "", "edge:///a?quantization=int4", "file:///a?x=y"]
)
def test_urls_of_other_schemes_are_refused(url):
    with pytest.raises(SettingsError, match="http"):
        QdrantIndex(url)


def test_opening_a_missing_collection_creates_no_files(url, tmp_path):
    with pytest.raises(IndexMismatchError, match=r"immr index build TRAINING_SET --model immr-3"):
        QdrantIndex(url).open("immr-3", 4, "prep")
    assert not (tmp_path / "index").exists()


def test_a_local_mode_collection_is_explained_and_replaced_by_qdrant_edge(tmp_path):
    root = tmp_path / "index"
    local, edge = QdrantIndex(f"file://{root}"), QdrantIndex(f"edge://{root}")
    local.build(VERSION, _items(), EMBEDDINGS_ND)
    for use in (
        lambda: edge.open("immr-3", 4, "prep"),
        lambda: edge.change(VERSION, Changes([], EMBEDDINGS_ND[:0], ["i0"], [1])),
    ):
        with pytest.raises(IndexMismatchError, match="built by qdrant-client's local mode") as refused:
            use()
        assert f"IMMR_INDEX_URL=file://{root}" in str(refused.value)
        assert "immr index build TRAINING_SET --model immr-3" in str(refused.value)
    assert edge.versions() == ["immr-3"]
    local.open("immr-3", 4, "prep").close()
    assert not edge.build(VERSION, _items(), EMBEDDINGS_ND).reused
    with closing(edge.open("immr-3", 4, "prep")) as collection:
        assert collection.search(EMBEDDINGS_ND[2], 1)[0].item_id == "i2"
    with pytest.raises(IndexMismatchError, match="built by Qdrant Edge"):
        local.open("immr-3", 4, "prep")


def test_qdrant_edge_does_not_replace_a_local_mode_collection_in_use(tmp_path):
    local, edge = (QdrantIndex(f"{scheme}://{tmp_path}/index") for scheme in ("file", "edge"))
    local.build(VERSION, _items(), EMBEDDINGS_ND)
    with closing(local.open("immr-3", 4, "prep")) as collection:
        with pytest.raises(IndexUnavailableError, match="is held by process"):
            edge.build(VERSION, _items(), EMBEDDINGS_ND)
        assert collection.count() == 4


def test_int8_quantization_rebuilds_the_collection_and_keeps_its_recall(tmp_path):
    dim, rows = 1024, 2700  # just above the size below which segments are searched exactly
    generator = np.random.default_rng(0)
    centres_CD = generator.normal(size=(27, dim))
    vectors = centres_CD[np.arange(rows) % 27] + 0.5 * generator.normal(size=(rows, dim))
    embeddings_ND = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    when = datetime(2025, 1, 1, tzinfo=UTC)
    items = [Item(f"i{n}", "", "", "Fruit", f"{n}.jpg", 1.0, when) for n in range(rows)]
    version = dataclasses.replace(VERSION, dim=dim)
    plain, int8 = (QdrantIndex(f"edge://{tmp_path}/index{query}") for query in ("", "?quantization=int8"))
    plain.build(version, items, embeddings_ND)
    assert not list(tmp_path.rglob("quantized*"))
    with closing(int8.open("immr-3", dim, "prep")) as collection:
        assert collection.count() == rows  # the collection without quantization still opens
    report = int8.build(version, items, embeddings_ND)
    assert (report.reused, report.points) == (False, rows)
    assert report.recall_at_10 >= 0.98
    assert list(tmp_path.rglob("quantized*"))
    assert int8.build(version, items, embeddings_ND).reused
