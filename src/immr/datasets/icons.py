"""The icons data set: 20,000 pictograms, drawn by many designers; a query is another designer's drawing.

The splits are Parquet files with the pictures inside. Each file is unpacked once, batch by batch, into
`<cache_dir>/icons/<SHA-256 of the file>/`.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from immr.datasets.labelled_set import DatasetPhoto, LabelledSet
from immr.errors import DatasetError
from immr.storage import fingerprint
from immr.storage.atomic import replace_folder_atomically
from immr.types import Item

SPLITS = ("train", "val", "test")
_REQUIRED = ("items", "train", "val")
_ITEM_COLUMNS = ("item_id", "title", "description", "category")
_PHOTO_COLUMNS = ("query_id", "item_id", "designer", "unseen")
_PUBLISHED = datetime(2025, 1, 1, tzinfo=UTC)
_PRICE = 1.0  # the icons are free, but the contract requires a price
_BATCH_ROWS = 1024

_log = logging.getLogger(__name__)


def load(folder: Path, cache_dir: Path) -> LabelledSet:
    """Read the data set; `test.parquet` is optional.

    Args:
        folder: contains `items.parquet` and one file per split.
        cache_dir: the pictures are unpacked below it.

    Raises:
        DatasetError: a file is missing, is not Parquet, or lacks a column.
    """
    for name in _REQUIRED:
        if not (folder / f"{name}.parquet").is_file():
            raise DatasetError(
                f"{folder} is not the icons data set: {name}.parquet is missing. Point "
                "IMMR_DATA_MIRROR to the folder that contains icons/"
            )
    rows, pictures = _unpacked(folder / "items.parquet", _ITEM_COLUMNS, "item_id", cache_dir)
    items = [
        Item(
            item_id=row["item_id"],
            title=row["title"],
            description=row["description"],
            category=row["category"],
            image=picture,
            price=_PRICE,
            updated_at=_PUBLISHED,
        )
        for row, picture in zip(rows, pictures, strict=True)
    ]
    return LabelledSet(
        "icons", items, [photo for split in SPLITS for photo in _photos(folder, split, cache_dir)]
    )


def _photos(folder: Path, split: str, cache_dir: Path) -> list[DatasetPhoto]:
    file = folder / f"{split}.parquet"
    if not file.is_file():
        return []
    rows, pictures = _unpacked(file, _PHOTO_COLUMNS, "query_id", cache_dir)
    return [
        DatasetPhoto(picture, row["item_id"], split, row["designer"], row["unseen"])
        for row, picture in zip(rows, pictures, strict=True)
    ]


def _unpacked(
    file: Path, columns: tuple[str, ...], id_column: str, cache_dir: Path
) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of a file without their pictures, and the path of each row's picture."""
    folder = (cache_dir / "icons" / fingerprint.of_file(file)).absolute()
    try:
        rows: list[dict[str, Any]] = pq.read_table(file, columns=list(columns)).to_pylist()
        if missing := {*columns, "image"} - set(pq.read_schema(file).names):
            raise DatasetError(
                f"{file} lacks the columns {', '.join(sorted(missing))}: get the data set again"
            )
        if not folder.is_dir():
            _unpack(file, id_column, folder)
    except pa.ArrowException as error:
        raise DatasetError(f"cannot read {file} ({error}): get the data set again") from error
    return rows, [str(folder / f"{row[id_column]}.webp") for row in rows]


def _unpack(file: Path, id_column: str, folder: Path) -> None:
    _log.info("unpacking the pictures of %s", file)
    with replace_folder_atomically(folder) as temporary, pq.ParquetFile(file) as parquet:
        for batch in parquet.iter_batches(_BATCH_ROWS, columns=[id_column, "image"]):
            for name, picture in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                (temporary / f"{name}.webp").write_bytes(picture)
