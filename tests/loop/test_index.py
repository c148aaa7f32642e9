"""Index: an embedded index, whose documents are embedded by the query encoder."""

from __future__ import annotations

import io
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from immr.errors import IndexMismatchError
from immr.loop import catalogue
from immr.loop.index import index
from immr.model import documents
from immr.model.class_photos import ClassPhotos
from immr.model.query_encoder import OnnxQueryEncoder
from immr.settings import Settings
from immr.types import FloatArray, Item, ModelVersion
from immr.wiring import Parts
from tests.support import tiny_version


class Files:
    """A registry that has one version's files."""

    def __init__(self, folder: Path, version: ModelVersion) -> None:
        self._folder, self._version = folder, version

    def fetch(self, version: ModelVersion, cache_dir: Path) -> Path:
        return self._folder

    def versions(self) -> list[ModelVersion]:
        return [self._version]

    def roles(self) -> dict[str, ModelVersion]:
        return {}


@pytest.fixture
def version() -> ModelVersion:
    return tiny_version.version(1)


@pytest.fixture
def parts(tmp_path: Path, version: ModelVersion, monkeypatch: pytest.MonkeyPatch) -> Parts:
    def encode(
        folder: Path, items: list[Item], cache_dir: Path, **_: object
    ) -> tuple[FloatArray, np.ndarray]:
        pictured_N = np.array([not item.image.endswith("broken.png") for item in items])
        readable = [item if good else items[0] for item, good in zip(items, pictured_N, strict=True)]
        return tiny_version.embed(folder, readable), pictured_N

    monkeypatch.setattr(documents, "encode_each", encode)
    settings = Settings(home=tmp_path / "home", index_url=f"edge://{tmp_path}/index")
    folder = tiny_version.write_files(tmp_path / "version")
    return Parts.of(settings, registry=Files(folder, version))


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    return tiny_version.items(tmp_path / "pictures")


def test_an_item_is_found_by_the_photos_of_its_class(
    parts: Parts, version: ModelVersion, items: list[Item], tmp_path: Path
) -> None:
    embeddings_ND = tiny_version.embed(tmp_path / "version", items)
    photo_1D = np.linalg.svd(embeddings_ND)[2][-1:]  # unlike every document
    ClassPhotos({items[1].item_id: 0}, [1], photo_1D).write(tmp_path / "version")
    index(parts, version, items)
    with closing(parts.index.open(version.id, version.dim, version.preprocessing_hash)) as collection:
        (first,) = collection.search(photo_1D[0], 1)
        assert first.item_id == items[1].item_id
        again = collection.search(embeddings_ND[1], 1)
    assert again[0].item_id == items[1].item_id


def test_every_item_is_found_by_its_own_document(
    parts: Parts, version: ModelVersion, items: list[Item], tmp_path: Path
) -> None:
    assert index(parts, version, items).points == len(items)
    embeddings_ND = tiny_version.embed(tmp_path / "version", items)
    with closing(parts.index.open(version.id, version.dim, version.preprocessing_hash)) as collection:
        found = [collection.search(embedding_D, 1)[0].item_id for embedding_D in embeddings_ND]
    assert found == [item.item_id for item in items]


def test_changes_since_the_catalogue_was_written_are_included(
    parts: Parts, version: ModelVersion, items: list[Item]
) -> None:
    catalogue.change(parts, [], ["green"])
    report = index(parts, version, items)
    assert (report.points, report.sequence) == (len(items) - 1, 1)


def test_a_query_encoder_of_another_version_cannot_open_it(
    parts: Parts, version: ModelVersion, items: list[Item]
) -> None:
    index(parts, version, items)
    with pytest.raises(IndexMismatchError):
        parts.index.open(version.id, version.dim, "other preprocessing")


def test_an_item_is_found_by_a_further_picture_and_an_unreadable_one_is_left_out(
    parts: Parts, version: ModelVersion, items: list[Item], tmp_path: Path
) -> None:
    red, others = items[0], items[1:]
    (tmp_path / "pink.png").write_bytes(picture := pink())
    (tmp_path / "broken.png").write_bytes(b"no picture")
    several = replace(red, images=(str(tmp_path / "pink.png"), str(tmp_path / "broken.png")))
    assert index(parts, version, [several, *others]).points == len(items)
    with closing(parts.index.open(version.id, version.dim, version.preprocessing_hash)) as collection:
        encoder = OnnxQueryEncoder(tmp_path / "version")
        [embedding_D] = encoder.encode([encoder.decode(picture)])
        found = collection.search(embedding_D, len(items))
    assert (found[0].item_id, found[0].image) == (red.item_id, red.image)
    assert found[0].cosine == pytest.approx(1, abs=1e-3)
    assert len({hit.item_id for hit in found}) == len(found) == len(items)


def pink() -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (48, 40), (250, 130, 170)).save(content, "PNG")
    return content.getvalue()
