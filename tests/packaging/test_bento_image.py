"""Bentos as images in a real container registry."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from immr.cluster.container_registry import ImageName
from immr.packaging import bento_image
from immr.packaging.upload import upload
from tests.support import registry_process

TAG = "immr-search:immr-3"


@pytest.fixture
def host(container_registry: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("DOCKER_CONFIG", str(container_registry[1]))
    return container_registry[0]


def home(folder: Path, weights: str = "weights") -> Path:
    """A store with one Bento."""
    for name, content in {"bento.yaml": "built", "src/version/query_encoder.onnx": weights}.items():
        file = folder / "bentos" / "immr-search" / "immr-3" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return folder


def files_of(host: str, repository: str, tag: str = "immr-3") -> dict[str, bytes]:
    """The files in an image's only layer."""
    manifest, blobs = registry_process.pulled(host, repository, tag)
    config = json.loads(blobs[manifest["config"]["digest"]])  # type: ignore[index]
    [layer] = manifest["layers"]  # type: ignore[misc]
    assert config["os"] == "linux" and config["rootfs"]["diff_ids"] == [layer["digest"]]
    with tarfile.open(fileobj=io.BytesIO(blobs[layer["digest"]])) as archive:
        return {
            member.name: content.read()
            for member in archive
            if (content := archive.extractfile(member)) is not None
        }


def test_a_bento_becomes_an_image_with_the_folder_that_kserve_mounts(host: str, tmp_path: Path) -> None:
    store = f"oci://{host}/one/bentos/"
    assert upload(home(tmp_path), TAG, store) == f"oci://{host}/one/bentos/{TAG}"
    assert files_of(host, "one/bentos/immr-search") == {
        "models/bento.yaml": b"built",
        "models/src/version/query_encoder.onnx": b"weights",
    }


def test_the_same_bento_is_not_pushed_again_and_another_one_replaces_it(host: str, tmp_path: Path) -> None:
    image = ImageName(host, "two/immr-search", "immr-3")
    bento = home(tmp_path) / "bentos" / "immr-search" / "immr-3"
    assert bento_image.push(bento, image) is True
    os.utime(bento / "bento.yaml", (0, 0))
    assert bento_image.push(bento, image) is False
    home(tmp_path, "better")
    assert bento_image.push(bento, image) is True
    assert files_of(host, "two/immr-search")["models/src/version/query_encoder.onnx"] == b"better"


def test_links_become_files(host: str, tmp_path: Path) -> None:
    """A layer with links would differ from one with copies, or lead out of the image."""
    image = ImageName(host, "three/immr-search", "immr-3")
    bento = home(tmp_path / "store") / "bentos" / "immr-search" / "immr-3"
    for name in ("hard", "symbolic"):
        (bento / name).write_text("elsewhere")
    assert bento_image.push(bento, image) is True
    (tmp_path / "elsewhere").write_text("elsewhere")
    for name in ("hard", "symbolic"):
        (bento / name).unlink()
    (bento / "symbolic").symlink_to(tmp_path / "elsewhere")
    (bento / "hard").hardlink_to(tmp_path / "elsewhere")
    assert bento_image.push(bento, image) is False
