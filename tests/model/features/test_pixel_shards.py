"""Shards on a disk and in a real S3 server, SeaweedFS."""

from __future__ import annotations

import errno
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from immr.data.sources.locations import Location
from immr.errors import TrainingError
from immr.model.features import pixel_shards
from immr.model.features.pixel_shards import ShardStore
from immr.types import ByteArray
from tests.support import s3_process


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with s3_process.serving(tmp_path_factory.mktemp("s3") / "data") as environment:
        yield environment


@pytest.fixture(params=["disk", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Location:
    if request.param == "disk":
        return Location.of(tmp_path / "shards")
    for name, value in request.getfixturevalue("s3").items():
        monkeypatch.setenv(name, value)
    return Location.of(f"s3://{s3_process.BUCKET}/{tmp_path.name}/shards")


@pytest.fixture
def on_disk(tmp_path: Path) -> Location:
    return Location.of(tmp_path / "shards")


def pictures(count: int, first: int = 0) -> dict[str, ByteArray]:
    rng = np.random.default_rng(first)
    return {
        f"{first + number:064x}": rng.integers(0, 256, (20 + number, 31, 3), dtype=np.uint8)
        for number in range(count)
    }


def test_pictures_come_back_bit_by_bit_in_any_order(folder: Location) -> None:
    both = pictures(5) | pictures(3, first=100)
    ShardStore(folder).add(pictures(5))
    ShardStore(folder).add(pictures(3, first=100))
    reader = ShardStore(folder)
    assert reader.has([*both, "f" * 64]) == set(both)
    keys = sorted(both, reverse=True)
    rows = [7, 0, 3, 3]
    for row, found in zip(rows, reader.rows(keys).take(rows), strict=True):
        np.testing.assert_array_equal(found, both[keys[row]])


def test_a_reader_sees_what_others_have_written_since(folder: Location) -> None:
    reader = ShardStore(folder)
    assert reader.has(list(pictures(2))) == set()
    ShardStore(folder).add(pictures(2))
    assert reader.has(list(pictures(3))) == set(pictures(2))


def test_a_picture_that_is_not_stored_is_no_other_picture(on_disk: Location) -> None:
    ShardStore(on_disk).add(pictures(2))
    with pytest.raises(KeyError, match="f" * 64):
        ShardStore(on_disk).rows([*pictures(2), "f" * 64])


@pytest.mark.parametrize("lost", [".index", ".tar"])
def test_a_shard_without_its_other_half_is_not_read(folder: Location, lost: str) -> None:
    ShardStore(folder).add(pictures(2))
    [file] = [file for file in folder.files() if file.name.endswith(lost)]
    file.filesystem.delete_file(file.path)
    assert ShardStore(folder).has(list(pictures(2))) == set()
    ShardStore(folder).add(pictures(2))
    assert ShardStore(folder).has(list(pictures(2))) == set(pictures(2))


def test_a_truncated_shard_is_not_read_and_is_replaced(on_disk: Location) -> None:
    ShardStore(on_disk).add(pictures(2))
    shard = shard_of(on_disk)
    shard.write_bytes(shard.read_bytes()[:-700])
    assert ShardStore(on_disk).has(list(pictures(2))) == set()
    ShardStore(on_disk).add(pictures(2))
    assert ShardStore(on_disk).has(list(pictures(2))) == set(pictures(2))


def test_shards_are_tar_files_that_others_can_read(on_disk: Location) -> None:
    ShardStore(on_disk).add(pictures(2))
    with tarfile.open(shard_of(on_disk)) as tar:
        members = {member.name: np.load(io.BytesIO(tar.extractfile(member).read())) for member in tar}  # type: ignore[union-attr]
    for key, picture in pictures(2).items():
        np.testing.assert_array_equal(members[f"{key}.npy"], picture)


def test_a_changed_byte_is_noticed(on_disk: Location) -> None:
    ShardStore(on_disk).add(pictures(1))
    shard = shard_of(on_disk)
    content = bytearray(shard.read_bytes())
    content[1000] ^= 1
    shard.write_bytes(content)
    with pytest.raises(TrainingError, match=rf"{shard} is damaged .*: delete it and train again"):
        ShardStore(on_disk).rows(list(pictures(1))).take([0])


def test_a_damaged_index_is_named(on_disk: Location) -> None:
    ShardStore(on_disk).add(pictures(1))
    index = shard_of(on_disk).with_suffix(".index")
    index.write_bytes(b"no index at all")
    with pytest.raises(TrainingError, match=rf"{index} cannot be read .*it is damaged; delete it and train"):
        ShardStore(on_disk).has(list(pictures(1)))


def test_a_shard_that_vanishes_is_named(folder: Location) -> None:
    ShardStore(folder).add(pictures(2))
    pixels = ShardStore(folder).rows(list(pictures(2)))
    [shard] = [file for file in folder.files() if file.name.endswith(".tar")]
    shard.filesystem.delete_file(shard.path)
    with pytest.raises(TrainingError, match=rf"{shard.uri} cannot be read .*it was deleted meanwhile"):
        pixels.take([0, 1])


def test_a_full_disk_leaves_no_shard(on_disk: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: memoryview) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pixel_shards, "write_atomically", full)
    with pytest.raises(
        TrainingError, match=r"\.tar cannot be written \(No space left on device\): free some"
    ):
        ShardStore(on_disk).add(pictures(2))
    assert ShardStore(on_disk).has(list(pictures(2))) == set()


def test_a_refusal_names_the_credentials() -> None:
    def refuse(*_: object) -> Any:
        raise OSError("AWS Error ACCESS_DENIED")

    refusing = SimpleNamespace(get_file_info=refuse, open_output_stream=refuse)
    store = ShardStore(Location(refusing, "shop/pixels", "s3://shop/pixels"))  # type: ignore[arg-type]
    with pytest.raises(
        TrainingError, match=r"s3://shop/pixels cannot be read \(AWS Error ACCESS_DENIED\): check IM"
    ):
        store.has(list(pictures(1)))
    with pytest.raises(TrainingError, match=r"s3://shop/pixels/.* cannot be written .*AWS_ACCESS_KEY_ID"):
        store.add(pictures(1))


def test_no_more_files_are_open_than_a_process_may_have(
    on_disk: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixel_shards, "_OPEN_FILES", 2)
    for first in range(6):
        ShardStore(on_disk).add(pictures(1, first=first))
    keys = [key for first in range(6) for key in pictures(1, first=first)]
    for row, found in enumerate(ShardStore(on_disk).rows(keys).take(range(6))):
        np.testing.assert_array_equal(found, pictures(1, first=row)[keys[row]])


def shard_of(folder: Location) -> Path:
    """The only shard."""
    assert folder.local is not None
    [file] = folder.local.glob("*.tar")
    return file
