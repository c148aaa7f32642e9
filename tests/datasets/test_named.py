import io
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from immr.datasets import grocery
from immr.datasets.named import load_dataset
from immr.errors import DatasetError


def small_grocery(folder: Path, classes: int = grocery.CLASS_COUNT, test: bool = False) -> Path:
    """The upstream layout with one photo per class and split."""
    content = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(content, "JPEG")
    header = (
        "Class Name (str),Class ID (int),Coarse Class Name (str),Coarse Class ID (int),"
        "Iconic Image Path (str),Product Description Path (str)"
    )
    lines, splits = [header], ["train", "val"] + ["test"] * test
    lists: dict[str, list[str]] = {split: [] for split in splits}
    for number in range(classes):
        name, place = f"Big-Thing-{number}", f"iconic-images-and-descriptions/Fruit/Thing/Big-Thing-{number}"
        lines.append(f"{name},{number},Thing,0,/{place}/{name}_Iconic.jpg,/{place}/{name}_Description.txt")
        files = {
            f"{place}/{name}_Iconic.jpg": content.getvalue(),
            f"{place}/{name}_Description.txt": b"A thing.",
        }
        for split in splits:
            photo = f"{split}/Fruit/Thing/{name}/{name}_001.jpg"
            files[photo] = content.getvalue()
            lists[split].append(f"{photo}, {number}, 0")
        for path, data in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
    (folder / "classes.csv").write_text("\n".join(lines) + "\n")
    for split, rows in lists.items():
        (folder / f"{split}.txt").write_text("\n".join(rows) + "\n")
    return folder


def archive(folder: Path, path: Path) -> str:
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder, arcname="GroceryStoreDataset-abc/dataset")
    return path.as_uri()


def test_grocery_is_read_from_the_mirror(tmp_path: Path) -> None:
    small_grocery(tmp_path / "mirror" / "grocery")
    labelled = load_dataset("grocery", tmp_path / "mirror", tmp_path / "cache")
    first = labelled.items[0]
    assert len(labelled.items) == 81
    assert (first.item_id, first.title, first.category) == ("big-thing-0", "Big Thing 0", "Fruit/Thing")
    assert first.description == "A thing."
    assert 0.5 <= first.price < 10.5
    assert Path(first.image).is_absolute()
    assert {photo.split for photo in labelled.photos} == {"train", "val"}
    assert labelled.split("val")[3].item_id == "big-thing-3"
    with pytest.raises(DatasetError, match="no split 'test': choose one of train, val"):
        labelled.split("test")


def test_the_test_split_is_read_if_it_exists(tmp_path: Path) -> None:
    labelled = grocery.load(small_grocery(tmp_path / "grocery", test=True))
    assert len(labelled.split("test")) == 81


def test_grocery_is_downloaded_once_and_atomically(tmp_path: Path) -> None:
    url = archive(small_grocery(tmp_path / "upstream"), tmp_path / "it.tar.gz")
    folder = grocery.fetch(tmp_path / "cache", url)
    assert len(grocery.load(folder).photos) == 162
    (tmp_path / "it.tar.gz").unlink()
    assert grocery.fetch(tmp_path / "cache", url) == folder
    assert load_dataset("grocery", tmp_path / "no-mirror", tmp_path / "cache").items


@pytest.mark.parametrize("kind", ["no network", "no archive", "another set"])
def test_a_failed_download_leaves_nothing(tmp_path: Path, kind: str) -> None:
    if kind == "no network":
        url, says = "http://127.0.0.1:9/it.tar.gz", "which needs no network"
    elif kind == "no archive":
        (tmp_path / "it.tar.gz").write_bytes(b"this is no archive")
        url, says = (tmp_path / "it.tar.gz").as_uri(), "could not be downloaded"
    else:
        url, says = (
            archive(small_grocery(tmp_path / "up", classes=3), tmp_path / "it.tar.gz"),
            "has 3 classes",
        )
    with pytest.raises(DatasetError, match=says):
        grocery.fetch(tmp_path / "cache", url, timeout_s=2)
    assert not list((tmp_path / "cache").iterdir())


def test_an_incomplete_mirror_is_named(tmp_path: Path) -> None:
    folder = small_grocery(tmp_path / "grocery")
    (folder / "val/Fruit/Thing/Big-Thing-7/Big-Thing-7_001.jpg").unlink()
    with pytest.raises(DatasetError, match=r"1 of 243 images are missing.*Big-Thing-7_001"):
        grocery.load(folder)


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="'groceries': choose one of grocery, icons, synthetic"):
        load_dataset("groceries", None, tmp_path)
