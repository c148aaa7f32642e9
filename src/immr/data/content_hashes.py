"""Hashes of a shop's tables and pictures, so that unchanged data are not governed again, and of their listing."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from immr.data import attributes
from immr.data.column_types import UnsuitableTypeError, convert
from immr.data.contract import ITEMS
from immr.data.pictures import picture_files
from immr.data.sources.shop import Shop, ShopTable
from immr.data.sources.sql_tables import QueriedPart
from immr.data.sources.table_parts import TablePart
from immr.data.sources.warehouse import WarehousePart
from immr.errors import DataError
from immr.storage import fingerprint


def content_hash(source: Shop | str | Path, items_only: bool = False) -> str:
    """Hash of the tables' rows and mapping, and of each local picture's size and modification time.

    The pictures themselves are read once, later.

    Args:
        source: the shop.
        items_only: of its catalogue alone.

    Raises:
        ContractError: a table is missing or cannot be read.
    """
    shop = Shop.of(source)
    tables = _tables(shop, items_only)
    by_content = {table.contract.name: [part.state() for part in table.parts] for table in tables}
    if kinds := shop.attributes():
        by_content[attributes.COLUMN] = [fingerprint.of_values(kinds)]
    pictures = hashlib.sha256()
    for table in tables:
        if "image" in table.contract.columns.names:
            _add_pictures(pictures, table)
    return fingerprint.of_values(by_content, shop.mapping.fingerprint(), pictures.hexdigest())


def listing_hash(source: Shop | str | Path) -> str:
    """Hash of what can be seen of a shop without reading its tables or pictures: enough to notice new data.

    Of files it is path, size and time of the last change; of a table in a warehouse the number of rows and the newest
    times.

    Raises:
        ContractError: a table is missing, or its place does not answer.
    """
    shop = Shop.of(source)
    stamps = {table.contract.name: [part.stamp() for part in table.parts] for table in shop.tables()}
    return fingerprint.of_values(stamps, shop.attributes(), shop.mapping.fingerprint())


@dataclass(frozen=True)
class FileStamps:
    """The files that a shop's tables are read from; a warehouse may grow at any time."""

    shop: Shop
    items_only: bool
    stamps: tuple[str, ...]

    @classmethod
    def of(cls, shop: Shop, items_only: bool = False) -> FileStamps:
        """Path, size and time of the last change of each file, now; of the catalogue's alone if `items_only`."""
        parts = (part for table in _tables(shop, items_only) for part in table.parts)
        return cls(shop, items_only, tuple(part.stamp() for part in parts if not _is_live(part)))

    def check_unchanged(self) -> None:
        """Refuse tables that changed while they were read.

        Raises:
            DataError: A file is there, is missing or looks different since these stamps.
        """
        if FileStamps.of(self.shop, self.items_only).stamps != self.stamps:
            raise DataError(
                f"the tables in {self.shop.name} changed while they were read: run again once they are complete"
            )


def _tables(shop: Shop, items_only: bool) -> list[ShopTable]:
    return [found] if items_only and (found := shop.table(ITEMS)) else shop.tables()


def _is_live(part: TablePart) -> bool:
    return isinstance(part, WarehousePart) or (
        isinstance(part, QueriedPart) and any(map(_is_live, part.parts))
    )


def _add_pictures(pictures: hashlib._Hash, table: ShopTable) -> None:
    for chunk in table.chunks(columns=["image"]):
        try:
            uris = convert(chunk.mapped.column(0), pa.string())[0].to_pylist()
        except (UnsuitableTypeError, pa.ArrowException):  # the column is refused when it is validated
            uris = []
        for uri in uris:
            state = _state(picture_files.placed(uri, table.beside)) if uri else ""
            pictures.update(f"{state}\n".encode())


def _state(uri: str) -> str:
    try:
        found = picture_files.path_of(uri).stat()
    except (OSError, ValueError, DataError):
        return "cannot be read"
    return f"{found.st_size} {found.st_mtime_ns}"
