"""Arrays that were looked up once, in several files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from immr.errors import DataError
from immr.storage.array_store import ArrayStore


@pytest.fixture
def store(tmp_path: Path) -> ArrayStore:
    store = ArrayStore(tmp_path, np.float16)
    for part in (range(1, 4), range(4, 6)):
        store.add({f"key {rows}": np.full((rows, 2), rows) for rows in part})
    return store


def test_they_keep_the_order_of_the_keys(store: ArrayStore) -> None:
    found = store.find(["key 5", "other", "key 1", "key 4", "key 1"])
    assert found.there_N.tolist() == [True, False, True, True, True]
    assert found.lengths().tolist() == [5, 0, 1, 4, 1]
    assert [found.read(number)[0, 0] for number in (0, 2, 3, 4)] == [5, 1, 4, 1]


def test_none_are_found_in_an_empty_store(tmp_path: Path) -> None:
    found = ArrayStore(tmp_path / "none", np.float16).find(["a", "b"])
    assert not found.there_N.any() and found.lengths().tolist() == [0, 0]


def test_they_can_be_read_after_their_files_were_merged_and_deleted(
    store: ArrayStore, tmp_path: Path
) -> None:
    found = store.find(["key 5", "key 2"])
    for path in tmp_path.iterdir():
        path.unlink()
    assert [found.read(number).tolist() for number in (0, 1)] == [[[5, 5]] * 5, [[2, 2]] * 2]


def test_a_broken_file_is_deleted_and_the_error_says_what_to_do(store: ArrayStore, tmp_path: Path) -> None:
    broken = next(
        path for path in tmp_path.iterdir() if np.full(10, 5, np.float16).tobytes() in path.read_bytes()
    )
    content = bytearray(broken.read_bytes())
    content[content.rindex(np.full(10, 5, np.float16).tobytes())] ^= 0xFF
    broken.write_bytes(content)
    found = ArrayStore(tmp_path, np.float16).find(["key 5", "key 1"])
    assert found.read(1).tolist() == [[1, 1]]
    with pytest.raises(DataError, match=f"{broken.name} was broken and is deleted: run the step again"):
        found.read(0)
    assert not broken.exists()
