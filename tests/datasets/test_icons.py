import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from immr.data.pictures import picture_files
from immr.datasets import icons
from immr.datasets.named import load_dataset
from immr.errors import DatasetError


def _webp(colour: str) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (12, 12), colour).save(content, "WEBP", lossless=True)
    return content.getvalue()


def _photos(path: Path, item_ids: list[str], designer: str, unseen: list[bool]) -> None:
    names = [f"q-{path.stem}-{number}" for number in range(len(item_ids))]
    columns = {"query_id": names, "item_id": item_ids, "designer": [designer] * len(names), "unseen": unseen}
    pq.write_table(pa.table(columns | {"image": [_webp("blue")] * len(names)}), path)


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    """Four items; `train` has two of them, `val` also a third."""
    folder = tmp_path / "mirror" / "icons"
    folder.mkdir(parents=True)
    item_ids = ["i-0", "i-1", "i-2", "i-3"]
    items = {"item_id": item_ids, "title": ["Anchor", "Bell", "Cup", "Dog"]}
    items |= {"description": [""] * 4, "category": ["Icons"] * 4}
    pq.write_table(pa.table(items | {"image": [_webp("red")] * 4}), folder / "items.parquet")
    _photos(folder / "train.parquet", ["i-0", "i-0", "i-1"], "ada", [False] * 3)
    _photos(folder / "val.parquet", ["i-0", "i-2"], "bob", [False, True])
    return tmp_path / "mirror"


def test_pictures_are_unpacked_and_labels_read(mirror: Path, tmp_path: Path) -> None:
    labelled = load_dataset("icons", mirror, tmp_path / "cache")
    assert [item.title for item in labelled.items] == ["Anchor", "Bell", "Cup", "Dog"]
    assert picture_files.load(labelled.items[0].image).getpixel((0, 0)) == (255, 0, 0)
    assert [photo.item_id for photo in labelled.split("train")] == ["i-0", "i-0", "i-1"]
    unseen = labelled.split("val")[1]
    assert (unseen.item_id, unseen.source, unseen.unseen) == ("i-2", "bob", True)
    assert labelled.unseen_items == {"i-2"}
    assert picture_files.load(unseen.image).getpixel((0, 0)) == (0, 0, 255)
    with pytest.raises(DatasetError, match="no split 'test': choose one of train, val"):
        labelled.split("test")


def test_the_test_split_is_read_if_it_exists(mirror: Path, tmp_path: Path) -> None:
    _photos(mirror / "icons" / "test.parquet", ["i-3"], "eve", [True])
    labelled = load_dataset("icons", mirror, tmp_path / "cache")
    assert [photo.item_id for photo in labelled.split("test")] == ["i-3"]
    assert labelled.unseen_items == {"i-2", "i-3"}


def test_unpacking_happens_once_per_content(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load_dataset("icons", mirror, tmp_path / "cache")
    unpacked: list[Path] = []
    monkeypatch.setattr(icons, "_unpack", lambda file, id_column, folder: unpacked.append(file))
    assert load_dataset("icons", mirror, tmp_path / "cache") == first
    assert not unpacked
    _photos(mirror / "icons" / "val.parquet", ["i-1"], "bob", [False])
    load_dataset("icons", mirror, tmp_path / "cache")
    assert [file.name for file in unpacked] == ["val.parquet"]


def test_a_missing_mirror_is_explained(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot be downloaded: set IMMR_DATA_MIRROR"):
        load_dataset("icons", None, tmp_path)
    with pytest.raises(DatasetError, match=r"items\.parquet is missing\. Point IMMR_DATA_MIRROR"):
        load_dataset("icons", tmp_path, tmp_path)


@pytest.mark.parametrize("damage", ["not Parquet", "no pictures"])
def test_a_damaged_file_is_named(mirror: Path, tmp_path: Path, damage: str) -> None:
    file = mirror / "icons" / "val.parquet"
    if damage == "not Parquet":
        file.write_bytes(b"no such thing")
    else:
        pq.write_table(pq.read_table(file).drop_columns("image"), file)
    with pytest.raises(DatasetError, match=r"val\.parquet"):
        load_dataset("icons", mirror, tmp_path / "cache")
