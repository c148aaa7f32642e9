"""What local mode and connections add to the contract: locks, crashes, and nobody answering."""

import os
import signal
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from immr.errors import IndexMismatchError, IndexUnavailableError, SettingsError
from immr.index.qdrant import QdrantIndex
from immr.types import Item, ModelVersion

VERSION = ModelVersion("immr", 3, "key", "run", 4, "prep", "manifest", "concept")
EMBEDDINGS_ND = np.eye(4, dtype=np.float32)
REPOSITORY = Path(__file__).parents[2]

HOLD = """
import sys
from immr.index.qdrant import QdrantIndex
collection = QdrantIndex(sys.argv[1]).open("immr-3", 4, "prep")
print("held", flush=True)
sys.stdin.read()
"""


def _items(price=1.5):
    when = datetime(2025, 1, 1, tzinfo=UTC)
    return [Item(f"i{n}", f"title {n}", "text", "Fruit/Apple", f"{n}.jpg", price, when) for n in range(4)]


@pytest.fixture
def url(tmp_path):
    return f"file://{tmp_path}/index"


def _hold_elsewhere(url):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_a_held_folder_names_its_holder_and_a_killed_holder_lets_go(url):
    index = QdrantIndex(url)
    index.build(VERSION, _items(), EMBEDDINGS_ND)
    with _hold_elsewhere(url) as process:
        with pytest.raises(IndexUnavailableError, match=f"held by process {process.pid}"):
            index.open("immr-3", 4, "prep")
        assert index.build(VERSION, _items(), EMBEDDINGS_ND).reused  # asks for no lock
        os.kill(process.pid, signal.SIGKILL)
    index.open("immr-3", 4, "prep").close()


def test_new_content_is_built_beside_a_process_that_serves_the_old(url, tmp_path):
    index = QdrantIndex(url)
    index.build(VERSION, _items(), EMBEDDINGS_ND)
    with _hold_elsewhere(url) as process:
        assert not index.build(VERSION, _items(price=9.0), EMBEDDINGS_ND).reused
        with index_open(index) as collection:
            assert collection.count() == 4
        process.stdin.close()
    index.build(VERSION, _items(price=9.0), EMBEDDINGS_ND)
    folders = [path for path in (tmp_path / "index" / "immr_immr-3").iterdir() if path.is_dir()]
    assert len(folders) == 1  # the old one went as soon as nobody held it


class index_open:  # noqa: N801
    def __init__(self, index):
        self._collection = index.open("immr-3", 4, "prep")

    def __enter__(self):
        return self._collection

    def __exit__(self, *_):
        self._collection.close()


def test_each_version_has_its_own_folder(url, tmp_path):
    index = QdrantIndex(url)
    index.build(VERSION, _items(), EMBEDDINGS_ND)
    other = ModelVersion("immr", 4, "key2", "run", 4, "prep", "manifest", "concept")
    index.build(other, _items(), EMBEDDINGS_ND)
    with index_open(index):
        index.open("immr-4", 4, "prep").close()
    assert sorted(path.name for path in (tmp_path / "index").iterdir()) == ["immr_immr-3", "immr_immr-4"]


def test_a_build_that_was_killed_goes_on_and_meanwhile_the_old_one_serves(url):
    index = QdrantIndex(url)
    index.build(VERSION, _items(), EMBEDDINGS_ND)
    killed = f"""
import os, numpy as np
from contextlib import closing
from tests.index.test_index_qdrant import _items, VERSION, EMBEDDINGS_ND
from immr.index import qdrant
from immr.index.documents import Documents
index = qdrant.QdrantIndex({url!r})
documents = Documents.of(VERSION, _items(price=9.0), EMBEDDINGS_ND)
content = "immr_immr-3--" + documents.binding.content_hash[:12]
connection = index._storage.connect(content)
qdrant._create(connection.client, content, documents.binding, payload_index=False)
half = Documents(documents.ids[:2], documents.payloads[:2], documents.embeddings_ND[:2], documents.binding)
qdrant._fill(connection.client, content, half)
os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", killed], cwd=REPOSITORY).returncode == -signal.SIGKILL
    with index_open(index) as collection:
        assert collection.count() == 4
    report = index.build(VERSION, _items(price=9.0), EMBEDDINGS_ND)
    assert (report.points, report.reused) == (4, False)


def test_nobody_answers():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(IndexUnavailableError, match=f"{url} does not answer.*IMMR_INDEX_URL"):
            QdrantIndex(url, timeout_s=2).open("immr-3", 4, "prep")
        with pytest.raises(IndexUnavailableError, match="does not answer"):
            QdrantIndex(url, timeout_s=2).build(VERSION, _items(), EMBEDDINGS_ND)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(IndexUnavailableError, match="does not answer"):
        QdrantIndex(f"file://{tmp_path}/file").build(VERSION, _items(), EMBEDDINGS_ND)


def test_a_closed_collection_says_so(url):
    index = QdrantIndex(url)
    index.build(VERSION, _items(), EMBEDDINGS_ND)
    collection = index.open("immr-3", 4, "prep")
    collection.close()
    collection.close()
    with pytest.raises(IndexUnavailableError, match="closed"):
        collection.search(EMBEDDINGS_ND[0], 1)


@pytest.mark.parametrize("url", ["redis://x", "file://", "/a/path", ""])
def test_other_urls_are_refused(url):
    with pytest.raises(SettingsError, match="http"):
        QdrantIndex(url)


def test_opening_leaves_nothing_behind_when_there_is_nothing(url, tmp_path):
    with pytest.raises(IndexMismatchError, match=r"immr index --model immr-3"):
        QdrantIndex(url).open("immr-3", 4, "prep")
    assert not (tmp_path / "index").exists()
