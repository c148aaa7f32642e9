"""The Grocery Store Dataset: photos taken in shops, and a catalogue picture and text for each of 81 products.

Klasson, Zhang, Kjellström: A Hierarchical Grocery Store Image Dataset with Visual and Semantic Labels, WACV
2019 (arXiv 1901.00711).
"""

from __future__ import annotations

import csv
import logging
import tarfile
import urllib.request
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import IO

from immr.datasets.labelled_set import DatasetPhoto, LabelledSet
from immr.errors import DatasetError
from immr.storage import fingerprint
from immr.storage.atomic import replace_folder_atomically
from immr.types import Item

REPOSITORY = "marcusklasson/GroceryStoreDataset"
COMMIT = "fc80ba90f803d79d0383df52c5a4ac5de99ff6fc"
URL = f"https://codeload.github.com/{REPOSITORY}/tar.gz/{COMMIT}"
CLASS_COUNT = 81
PUBLISHED = datetime(2019, 1, 3, tzinfo=UTC)

_log = logging.getLogger(__name__)


def load(folder: Path) -> LabelledSet:
    """Read the data set in its upstream folder layout; `test.txt` is optional.

    Raises:
        DatasetError: files are missing, or the number of classes is wrong.
    """
    folder = folder.absolute()
    rows = _class_rows(folder)
    items = [_item(folder, row) for row in rows]
    item_ids = {int(row["Class ID (int)"]): item.item_id for row, item in zip(rows, items, strict=True)}
    photos = [photo for split in ("train", "val", "test") for photo in _photos(folder, split, item_ids)]
    _check_files(folder, items, photos)
    return LabelledSet("grocery", items, photos)


def fetch(cache_dir: Path, url: str = URL, timeout_s: float = 60.0) -> Path:
    """Download the pinned commit once; the folder appears only when it is complete and checked.

    Raises:
        DatasetError: the download failed or is incomplete.
    """
    folder = cache_dir / f"grocery-{COMMIT[:7]}"
    if folder.is_dir():
        return folder
    _log.info("downloading the data set grocery from %s", url)
    with replace_folder_atomically(folder) as aside:
        try:
            with urllib.request.urlopen(url, timeout=timeout_s) as answer:
                _unpack(answer, aside)
        except (OSError, tarfile.TarError, EOFError) as error:
            raise DatasetError(
                f"the data set grocery could not be downloaded from {url} ({error}). Set IMMR_DATA_MIRROR to a "
                "folder that contains grocery/, or use the data set synthetic, which needs no network"
            ) from error
        load(aside)
    return folder


def _unpack(answer: IO[bytes], target: Path) -> None:
    """Extract the repository's `dataset/` folder only."""
    from tqdm import tqdm

    with tarfile.open(fileobj=answer, mode="r|gz") as archive:
        for member in tqdm(archive, desc="grocery", unit=" files", disable=None):
            parts = PurePosixPath(member.name).parts
            if len(parts) > 2 and parts[1] == "dataset" and (member.isfile() or member.isdir()):
                member.name = str(PurePosixPath(*parts[2:]))
                archive.extract(member, target, filter="data")


def _class_rows(folder: Path) -> list[dict[str, str]]:
    path = folder / "classes.csv"
    if not path.is_file():
        raise DatasetError(f"{folder} is not the data set grocery: it has no classes.csv")
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    if len(rows) != CLASS_COUNT:
        raise DatasetError(
            f"{path} has {len(rows)} classes and should have {CLASS_COUNT}: "
            "delete the folder to download it again"
        )
    return rows


def _item(folder: Path, row: dict[str, str]) -> Item:
    name = row["Class Name (str)"]
    picture = row["Iconic Image Path (str)"].lstrip("/")
    text = folder / row["Product Description Path (str)"].lstrip("/")
    item_id = name.lower()
    return Item(
        item_id=item_id,
        title=name.replace("-", " "),
        description=text.read_text(encoding="utf-8-sig").strip() if text.is_file() else "",
        category=f"{PurePosixPath(picture).parts[1]}/{row['Coarse Class Name (str)']}",
        image=str(folder / picture),
        price=_made_up_price(item_id),
        updated_at=PUBLISHED,
    )


def _made_up_price(item_id: str) -> float:
    """The data set has no prices, so one from 0.50 to 10.49 is derived from the id."""
    return (50 + int(fingerprint.of_bytes(item_id.encode())[:8], 16) % 1000) / 100


def _photos(folder: Path, split: str, item_ids: dict[int, str]) -> list[DatasetPhoto]:
    path = folder / f"{split}.txt"
    if not path.is_file():
        return []
    photos = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip():
            image, class_id, _ = (part.strip() for part in line.split(","))
            photos.append(DatasetPhoto(str(folder / image), item_ids[int(class_id)], split))
    return photos


def _check_files(folder: Path, items: list[Item], photos: list[DatasetPhoto]) -> None:
    splits = {photo.split for photo in photos}
    if not {"train", "val"} <= splits:
        raise DatasetError(
            f"{folder} is not the complete data set grocery: train.txt or val.txt is missing or empty"
        )
    images = [item.image for item in items] + [photo.image for photo in photos]
    missing = [image for image in images if not Path(image).is_file()]
    if missing:
        raise DatasetError(
            f"{folder}: {len(missing)} of {len(images)} images are missing, the first is {missing[0]}: "
            "delete the folder to download it again, or complete the mirror"
        )
