import dataclasses
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from immr.data.training_set import TrainingSet
from immr.errors import ContractError
from immr.loop.govern import below_home, misses_pictures, training_set_of
from immr.settings import Settings
from immr.types import ModelVersion
from immr.wiring import Parts, connect

VERSION = ModelVersion("immr", 1, "key", "run", 8, "p", "hash-a", "concept")


def add(parts: Parts, name: str, manifest_hash: str) -> Path:
    folder = parts.settings.work_dir / "training-sets" / name
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"hash": manifest_hash}))
    return folder


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return connect(Settings(home=tmp_path / "home"))


def test_a_training_set_is_found_by_its_hash(parts: Parts) -> None:
    add(parts, "other", "hash-b")
    wanted = add(parts, "wanted", "hash-a")
    assert training_set_of(parts, VERSION).folder == wanted


@pytest.mark.parametrize("content", [None, "", "{", "{}", "[]"])
def test_a_stray_folder_does_not_break_the_search(parts: Parts, content: str | None) -> None:
    stray = parts.settings.work_dir / "training-sets" / "a-stray-folder"
    stray.mkdir(parents=True)
    if content is not None:
        (stray / "manifest.json").write_text(content)
    wanted = add(parts, "wanted", "hash-a")
    assert training_set_of(parts, VERSION).folder == wanted


def test_a_missing_training_set_is_an_error_with_a_remedy(parts: Parts) -> None:
    with pytest.raises(ContractError, match=r"immr-1 .*run `immr govern` on its data again"):
        training_set_of(parts, dataclasses.replace(VERSION, manifest_hash="hash-c"))


def test_a_set_outside_the_home_is_copied_once(parts: Parts, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "manifest.json").write_text(json.dumps({"hash": "hash-d"}))
    copy = below_home(parts, TrainingSet(outside))
    assert copy.folder.is_relative_to(parts.settings.home)
    assert below_home(parts, TrainingSet(outside)).folder == copy.folder
    assert below_home(parts, copy).folder == copy.folder


def test_pictures_of_another_home_are_fetched_again(parts: Parts, tmp_path: Path) -> None:
    """A moved or copied home once kept naming the first home's files."""
    ours = parts.settings.pictures_dir
    for folder, elsewhere in ((ours, False), (tmp_path / "before" / "pictures", True)):
        made = add(parts, f"set-{elsewhere}", "hash")
        images = [str(folder / "ab" / ("ab" * 32)), "/shop/cup.jpg"]
        for table in ("items", "queries"):
            pq.write_table(pa.table({"image": images}), made / f"{table}.parquet")
        assert misses_pictures(made, ours) is elsewhere
