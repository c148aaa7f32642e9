"""One file of arrays: its columns, and a checksum that is compared once."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest

from immr.storage.array_file import ArrayFile
from immr.storage.array_store import ArrayStore

ENTRIES = {key: np.full((rows, 3), rows, np.float16) for rows, key in enumerate(("c", "a", "b"), 1)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    ArrayStore(tmp_path, np.float16).add(ENTRIES)
    [path] = tmp_path.iterdir()
    return path


def test_each_row_is_an_array_with_its_shape(path: Path) -> None:
    file = ArrayFile.open(path)
    assert file.is_small and (np.diff(file.keys_N.argsort()) == 1).all()
    rows_M = np.arange(3, dtype=np.int32)
    assert file.rows(np.append(file.keys_N[::-1], b"other")).tolist() == [2, 1, 0, -1]
    arrays = [file.array(row, np.float16) for row in range(3)]
    assert file.lengths(rows_M).tolist() == [len(array) for array in arrays]
    assert sorted(array.tolist() for array in arrays) == [array.tolist() for array in ENTRIES.values()]
    assert not any(array.flags.writeable or array.flags.owndata for array in arrays)


def test_a_checksum_is_computed_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, computed, real = ArrayFile.open(path), [], zlib.crc32
    monkeypatch.setattr(zlib, "crc32", lambda content: computed.append(1) or real(content))
    for row in (0, 1, 0, 1, 0):
        file.array(row, np.float16)
    assert len(computed) == 2


def test_a_changed_value_is_an_error_every_time(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.rindex(ENTRIES["b"].tobytes())] ^= 0xFF
    path.write_bytes(content)
    file = ArrayFile.open(path)
    outcomes = []
    for row in (0, 1, 2, 0, 1, 2):
        try:
            outcomes.append(len(file.array(row, np.float16)))
        except ValueError:
            outcomes.append(-1)
    assert sorted(outcomes) == [-1, -1, 1, 1, 2, 2]
