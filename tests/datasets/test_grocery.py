import io
import tarfile
from pathlib import Path

import pytest

from immr.datasets import grocery
from immr.errors import DatasetError


def write_upstream(folder: Path, classes: int = grocery.CLASS_COUNT) -> Path:
    """The layout of the data set's repository, with one photo per class and split."""
    lines = [
        "Class Name (str),Class ID (int),Coarse Class Name (str),Coarse Class ID (int),"
        "Iconic Image Path (str),Product Description Path (str)"
    ]
    folder.mkdir(parents=True)
    photos = {"train": "", "val": ""}
    for number in range(classes):
        icon, text = f"iconic/Fruit/Thing-{number}.jpg", f"iconic/Fruit/Thing-{number}.txt"
        lines.append(f"Thing-{number},{number},Things,0,/{icon},/{text}")
        (folder / icon).parent.mkdir(parents=True, exist_ok=True)
        (folder / icon).write_bytes(b"icon")
        (folder / text).write_text("a thing\n")
        for split in photos:
            (folder / split).mkdir(exist_ok=True)
            (folder / split / f"{number}.jpg").write_bytes(b"photo")
            photos[split] += f"{split}/{number}.jpg, {number}, 0\n"
    (folder / "classes.csv").write_text("\n".join(lines) + "\n")
    for split, content in photos.items():
        (folder / f"{split}.txt").write_text(content)
    return folder


def test_the_upstream_layout_is_read(tmp_path: Path) -> None:
    found = grocery.load(write_upstream(tmp_path / "set"))
    assert len(found.items) == len(found.split("train")) == len(found.split("val")) == grocery.CLASS_COUNT
    first = found.items[0]
    assert (first.item_id, first.title, first.category) == ("thing-0", "Thing 0", "Fruit/Things")
    assert first.description == "a thing"
    assert 0.5 <= first.price < 10.5
    assert found.split("val")[3].item_id == "thing-3"


def test_prices_have_two_decimals() -> None:
    prices = [grocery._made_up_price(f"item {number}") for number in range(500)]
    assert prices == [round(price, 2) for price in prices], "1.3399999999999999 was one"
    assert 0.5 <= min(prices) < 1.0 and 10.0 < max(prices) < 10.5


def test_an_incomplete_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"has no classes\.csv"):
        grocery.load(tmp_path)
    with pytest.raises(DatasetError, match="has 3 classes and should have 81"):
        grocery.load(write_upstream(tmp_path / "small", classes=3))
    folder = write_upstream(tmp_path / "gaps")
    (folder / "train" / "0.jpg").unlink()
    with pytest.raises(DatasetError, match="1 of 243 images are missing"):
        grocery.load(folder)


def archive_of(folder: Path) -> Path:
    path = folder.parent / "archive.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, arcname="GroceryStoreDataset-abc/dataset")
        readme = tarfile.TarInfo("GroceryStoreDataset-abc/README.md")
        readme.size = 2
        archive.addfile(readme, io.BytesIO(b"hi"))
    return path


def test_it_is_downloaded_once(tmp_path: Path) -> None:
    archive = archive_of(write_upstream(tmp_path / "dataset"))
    folder = grocery.fetch(tmp_path / "cache", archive.as_uri())
    assert not (folder / "README.md").exists()
    archive.unlink()
    assert grocery.fetch(tmp_path / "cache", archive.as_uri()) == folder
    assert len(grocery.load(folder).items) == grocery.CLASS_COUNT


def test_a_failed_download_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="use the data set synthetic, which needs no network"):
        grocery.fetch(tmp_path / "cache", (tmp_path / "nothing.tar.gz").as_uri())
    assert not list((tmp_path / "cache").glob("*"))
