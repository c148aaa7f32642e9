"""Bentos in a real S3 server, SeaweedFS."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.fs as fs
import pytest

from immr.errors import PackagingError
from immr.packaging.upload import missing, upload
from tests.support import s3_process

STORE = f"s3://{s3_process.BUCKET}/bentos"
TAG = "immr-search:immr-3"
MIB = 1 << 20


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with s3_process.serving(tmp_path_factory.mktemp("s3") / "data") as environment:
        yield environment


@pytest.fixture
def bento_home(s3: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A store with one Bento, and the environment that reaches the server."""
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    fill(tmp_path, {"bento.yaml": "first", "src/version/query_encoder.onnx": "weights", "src/old.py": ""})
    return tmp_path


def fill(home: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        file = home / "bentos" / "immr-search" / "immr-3" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)


def stored() -> dict[str, str]:
    filesystem, path = fs.FileSystem.from_uri(f"{STORE}/immr-search/immr-3")
    found: dict[str, Any] = {}
    for name in names():
        with filesystem.open_input_stream(f"{path}/{name}") as file:
            found[name] = file.read().decode()
    return found


def names() -> set[str]:
    filesystem, path = fs.FileSystem.from_uri(f"{STORE}/immr-search/immr-3")
    found = filesystem.get_file_info(fs.FileSelector(path, recursive=True))
    return {info.path.removeprefix(f"{path}/") for info in found if info.type == fs.FileType.File}


def test_a_bento_that_is_not_there_or_not_whole_is_named(bento_home: Path) -> None:
    """`deploy` created the pods, and only their init containers found out, a minute later."""
    other = "immr-search:immr-4"
    assert missing(other, STORE) == f"{STORE}/immr-search/immr-4 holds no Bento"
    shutil.copytree(bento_home / "bentos/immr-search/immr-3", bento_home / "bentos/immr-search/immr-4")
    upload(bento_home, other, STORE)
    assert missing(other, f"{STORE}/") == ""
    filesystem, path = fs.FileSystem.from_uri(f"{STORE}/immr-search/immr-4")
    with filesystem.open_output_stream(f"{path}/upload-unfinished"):
        pass
    assert "has not finished" in missing(other, STORE)
    assert missing(other, "pvc://claim/bentos") == missing(other, "oci://registry.example/immr") == ""


def test_a_bento_is_copied_and_a_later_build_replaces_it(bento_home: Path) -> None:
    address = upload(bento_home, TAG, f"{STORE}/")
    assert address == f"{STORE}/immr-search/immr-3"
    assert stored() == {"bento.yaml": "first", "src/version/query_encoder.onnx": "weights", "src/old.py": ""}
    (bento_home / "bentos/immr-search/immr-3/src/old.py").unlink()
    fill(bento_home, {"bento.yaml": "second", "src/version/query_encoder.onnx": "better"})
    upload(bento_home, TAG, STORE)
    assert stored() == {"bento.yaml": "second", "src/version/query_encoder.onnx": "better"}


def test_the_same_bento_is_not_copied_again(bento_home: Path) -> None:
    upload(bento_home, TAG, STORE)
    fill(bento_home, {"src/version/query_encoder.onnx": "a change that no build made"})
    upload(bento_home, TAG, STORE)
    assert stored()["src/version/query_encoder.onnx"] == "weights"


def test_a_copy_that_was_interrupted_is_made_again(bento_home: Path) -> None:
    upload(bento_home, TAG, STORE)
    filesystem, path = fs.FileSystem.from_uri(f"{STORE}/immr-search/immr-3/bento.yaml")
    filesystem.delete_file(path)
    fill(bento_home, {"src/version/query_encoder.onnx": "weights 2"})
    upload(bento_home, TAG, STORE)
    assert stored()["src/version/query_encoder.onnx"] == "weights 2"


def test_a_pod_that_starts_during_a_copy_finds_every_file(
    bento_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(bento_home, TAG, STORE)
    before = names()
    fill(bento_home, {"bento.yaml": "second", "src/new.py": "new"})
    (bento_home / "bentos/immr-search/immr-3/src/old.py").unlink()
    seen = []
    copy = shutil.copyfileobj

    def look_and_copy(*arguments: Any) -> None:
        seen.append(names())
        copy(*arguments)

    monkeypatch.setattr(shutil, "copyfileobj", look_and_copy)
    upload(bento_home, TAG, STORE)
    assert len(seen) == 3 and all(before <= files for files in seen[:-1])
    assert seen[-1] >= {"bento.yaml", "src/version/query_encoder.onnx", "src/new.py"}
    assert names() == {"bento.yaml", "src/version/query_encoder.onnx", "src/new.py"}


def test_a_replacement_that_was_interrupted_is_not_taken_for_the_earlier_build(
    bento_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(bento_home, TAG, STORE)
    fill(bento_home, {"bento.yaml": "second", "src/version/query_encoder.onnx": "other"})
    copy = shutil.copyfileobj

    def copy_or_fail(content: Any, *arguments: Any) -> None:
        if content.name.endswith("bento.yaml"):
            raise OSError("the network is gone")
        copy(content, *arguments)

    with monkeypatch.context() as patched, pytest.raises(PackagingError, match="the network is gone"):
        patched.setattr(shutil, "copyfileobj", copy_or_fail)
        upload(bento_home, TAG, STORE)
    first = {"bento.yaml": "first", "src/version/query_encoder.onnx": "weights", "src/old.py": ""}
    fill(bento_home, first)  # as another machine has it
    upload(bento_home, TAG, STORE)
    assert stored() == first


def test_large_files_are_not_held_in_memory(bento_home: Path) -> None:
    """In a process of its own, because peaks are those of a whole process."""
    for number in range(4):
        with (bento_home / "bentos/immr-search/immr-3" / f"{number}.bin").open("wb") as file:
            file.truncate(64 * MIB)
    script = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "import pyarrow.fs\n"
        "from immr.packaging.upload import upload\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        "before = peak()\n"
        "upload(Path(sys.argv[1]), sys.argv[2], sys.argv[3])\n"
        "print(peak() - before)\n"
    )
    command = [sys.executable, "-c", script, bento_home, TAG, STORE]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 128 * MIB  # a multipart upload holds 10 MB a file


def test_a_store_that_is_away_is_named(bento_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(PackagingError, match=r"immr-search:immr-3 could not be copied to s3://shop/bentos"):
        upload(bento_home, TAG, STORE)
