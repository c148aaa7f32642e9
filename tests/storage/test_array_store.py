"""Arrays by key: what is stored, what a broken or half-written file does, and merging."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from immr.storage import array_file, array_store
from immr.storage.array_file import ArrayFile
from immr.storage.array_store import ArrayStore


def entries(*keys: str) -> dict[str, np.ndarray]:
    return {key: np.full((index + 1, 3), index, np.float16) for index, key in enumerate(keys)}


def store(folder: Path) -> ArrayStore:
    return ArrayStore(folder, np.float16)


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.arrow"))


def test_ragged_entries_come_back_without_copies(tmp_path: Path) -> None:
    first, kept = store(tmp_path / "space"), entries("c", "a", "b")
    first.add(kept)
    first.add(entries("d"))
    found = store(tmp_path / "space").get(["a", "b", "c", "d", "unknown"])
    assert found.keys() == {"a", "b", "c", "d"}
    for key, values in kept.items():
        np.testing.assert_array_equal(found[key], values)
        assert found[key].base is not None and not found[key].flags.writeable
    assert first.has(["a", "unknown"]) == {"a"}
    where = first.find(["b", "unknown", "d", "b"])
    assert where.there_N.tolist() == [True, False, True, True]
    assert where.lengths().tolist() == [3, 0, 1, 3]
    np.testing.assert_array_equal(where.read(3), kept["b"])


def test_nothing_is_written_for_no_entries(tmp_path: Path) -> None:
    store(tmp_path / "space").add({})
    assert store(tmp_path / "space").get(["a"]) == {}
    assert not (tmp_path / "space").exists()


def test_a_truncated_file_is_deleted_and_others_stay(tmp_path: Path) -> None:
    store(tmp_path).add(entries("a"))
    [broken] = files(tmp_path)
    broken.write_bytes(broken.read_bytes()[:100])
    store(tmp_path).add(entries("b"))
    assert store(tmp_path).has(["a", "b"]) == {"b"}
    assert not broken.exists()


def test_changed_values_are_noticed_when_they_are_read(tmp_path: Path) -> None:
    store(tmp_path).add({"a": np.full((400, 3), 7, np.float16)})
    [file] = files(tmp_path)
    content = bytearray(file.read_bytes())
    content[content.rindex(np.full(3, 7, np.float16).tobytes())] ^= 0xFF
    file.write_bytes(content)
    assert store(tmp_path).get(["a"]) == {}
    assert not file.exists()


def test_a_half_written_file_is_never_read(tmp_path: Path) -> None:
    store(tmp_path).add(entries("a"))
    [whole] = files(tmp_path)
    whole.rename(tmp_path / f".{whole.name}.aside.arrow")
    assert store(tmp_path).get(["a"]) == {}


def test_small_files_become_one_and_are_kept_for_a_week(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = store(tmp_path), store(tmp_path)
    wanted = {
        f"key {number}": np.full((1, 2), number, np.float16) for number in range(2 * array_store._SMALL_FILES)
    }
    names = list(wanted)
    writer.add({names[0]: wanted[names[0]]})
    early = reader.get(names[:1])[names[0]]
    for name in names[1:]:
        writer.add({name: wanted[name]})
    assert len(files(tmp_path)) < array_store._SMALL_FILES
    for found in (reader.get(names), store(tmp_path).get(names)):
        assert {name: values.tolist() for name, values in found.items()} == {
            name: values.tolist() for name, values in wanted.items()
        }
    assert early.tolist() == [[0, 0]]  # still mapped
    assert list(tmp_path.glob("*.merged"))
    later = time.time() + 2 * array_store._KEPT_S
    monkeypatch.setattr(time, "time", lambda: later)
    for number in range(array_store._SMALL_FILES):
        writer.add({f"more {number}": wanted[names[0]]})
    writer.add(entries("last"))
    assert store(tmp_path).has(names) == set(names)


def test_two_writers_lose_nothing(tmp_path: Path) -> None:
    one, other = store(tmp_path), store(tmp_path)
    for number in range(array_store._SMALL_FILES):
        one.add({f"one {number}": np.zeros(1)})
        other.add({f"other {number}": np.ones(1)})
    names = [f"{who} {number}" for who in ("one", "other") for number in range(array_store._SMALL_FILES)]
    assert store(tmp_path).has(names) == set(names)


def test_a_lookup_opens_files_once_and_reads_no_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(array_store._SMALL_FILES - 1):
        store(tmp_path).add({f"{number}": np.zeros(4)})
    opened, real = [], ArrayFile.open
    monkeypatch.setattr(ArrayFile, "open", lambda path: opened.append(path) or real(path))
    monkeypatch.setattr(ArrayFile, "array", lambda *_: pytest.fail("values were read"))
    reader = store(tmp_path)
    for number in range(3):
        assert reader.has([f"{number}", "missing"]) == {f"{number}"}
    assert len(opened) == array_store._SMALL_FILES - 1


def test_a_lookup_does_not_search_each_of_many_large_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 500 files, as for a million pictures, a step looked 4,000 times for 256 keys, at 23 ms."""
    monkeypatch.setattr(array_file, "_SMALL_BYTES", 0)
    monkeypatch.setattr(array_store, "_SEARCHED_FILES", 4)
    store = ArrayStore(tmp_path, np.float16)
    names = [f"key {number}" for number in range(30)]
    for number in range(0, 30, 3):
        store.add({names[row]: np.full((1, 2), row) for row in range(number, number + 3)})
    assert store.has([*names, "other"]) == set(names)
    searched = []
    rows = ArrayFile.rows

    def noted(self: Any, wanted_M: Any) -> Any:
        searched.append(self.path)
        return rows(self, wanted_M)

    monkeypatch.setattr(ArrayFile, "rows", noted)
    found = store.get(names[::-1])
    assert [found[name].tolist() for name in names] == [[[row, row]] for row in range(30)]
    assert not searched
    store.add({"new": np.zeros((1, 2))})
    assert store.has(["new", names[4]]) == {"new", names[4]}
    assert len(searched) == 1
    files(tmp_path)[0].unlink()
    assert len(store.has([*names, "new"])) in (28, 30)
