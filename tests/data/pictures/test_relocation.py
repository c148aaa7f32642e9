"""Fetched pictures of a home that was moved or copied are found in it, and never in the first one."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from immr.data.pictures.picture_files import read
from immr.data.pictures.relocation import kept_here
from immr.data.training_set import TrainingSet
from immr.errors import DataError
from immr.index.outbox import Outbox
from tests.support import tiny_training_set

NAME = "ab" * 32


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """With one fetched picture, and a training set whose first item and first photo have it."""
    home = tmp_path / "first"
    picture = home / "pictures" / "ab" / NAME
    picture.parent.mkdir(parents=True)
    picture.write_bytes(b"picture")
    folder = home / "work" / "training-sets" / "key"
    folder.mkdir(parents=True)
    tiny_training_set.write(folder)
    for table in ("items", "queries"):
        rows = pq.read_table(folder / f"{table}.parquet").to_pylist()
        rows[0]["image"] = str(picture)
        if table == "items":
            rows[0]["images"] = json.dumps([str(picture)])
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{table}.parquet")
    return home


def set_of(home: Path) -> TrainingSet:
    return TrainingSet(home / "work" / "training-sets" / "key")


@pytest.mark.parametrize("keeps_the_first", [True, False])
def test_a_training_set_of_a_moved_or_copied_home_names_its_own_pictures(
    home: Path, tmp_path: Path, keeps_the_first: bool
) -> None:
    other = tmp_path / "other"
    if keeps_the_first:
        shutil.copytree(home, other)
    else:
        home.rename(other)
    own = str(other / "pictures" / "ab" / NAME)
    found = set_of(other)
    assert found.items[0].pictures == (own, own)
    assert found.queries[0].image == own
    [_, written, *_] = pq.read_table(found.folder / "items.parquet", columns=["image"])["image"].to_pylist()
    assert found.items[1].image == written


def test_changes_that_wait_name_the_pictures_of_their_home(home: Path, tmp_path: Path) -> None:
    item = set_of(home).items[0]
    Outbox(home / "items" / "outbox.db", home / "pictures").append([replace(item, attributes={})], ["gone"])
    home.rename(tmp_path / "other")
    box = Outbox(tmp_path / "other" / "items" / "outbox.db", tmp_path / "other" / "pictures")
    changed, gone = box.between(0, 2)
    assert changed.item is not None and gone.item is None
    assert changed.item.image == str(tmp_path / "other" / "pictures" / "ab" / NAME)
    last = box.last_of(item.item_id)
    assert last is not None and last.item is not None
    assert asdict(last.item) == asdict(changed.item)


def test_a_picture_that_this_home_lacks_keeps_its_path(home: Path, tmp_path: Path) -> None:
    elsewhere = str(home / "pictures" / "ab" / NAME)
    assert kept_here(elsewhere, tmp_path / "empty") == elsewhere
    for path in ("/shop/cup.jpg", "https://shop.example/cup.jpg", ""):
        assert kept_here(path, home / "pictures") == path


def test_a_missing_fetched_picture_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="run `immr govern` on the data again"):
        read(str(tmp_path / "gone" / "ab" / NAME))
    with pytest.raises(DataError, match="check the path in the table"):
        read(str(tmp_path / "gone.jpg"))
