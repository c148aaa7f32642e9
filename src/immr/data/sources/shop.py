"""A shop's tables where they are, with the mapping from their columns to the data contract's."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from immr.data import attributes
from immr.data.contract import CONTRACT, ITEMS, TableContract
from immr.data.mapping.integer_ids import IntegerIds
from immr.data.mapping.shop_map import ShopMap, TableMap
from immr.data.pictures import picture_files
from immr.data.sources.files import FilePart, is_table, not_a_table
from immr.data.sources.locations import Location, listing_once
from immr.data.sources.sql_tables import QueriedPart
from immr.data.sources.table_folders import instead_of_tables, parts_at, parts_in
from immr.data.sources.table_parts import CHUNK_ROWS, TablePart
from immr.data.sources.warehouse import WarehousePart, is_warehouse, tables_of
from immr.errors import ContractError
from immr.settings import without_credentials
from immr.types import AttributeKind

_COLUMNS_SHOWN = 12  # in a message


class Chunk(NamedTuple):
    """Some rows of a table."""

    raw: pa.RecordBatch  # as they are
    mapped: pa.RecordBatch  # with the contract's columns
    part: TablePart


@dataclass(frozen=True)
class ShopTable:
    """One of the contract's tables in a shop."""

    contract: TableContract
    parts: Sequence[TablePart]
    mapping: TableMap
    beside: str  # where relative paths of pictures start

    @property
    def place(self) -> str:
        """Where it is, for messages."""
        first = self.parts[0].place
        return first if len(self.parts) == 1 else f"{first} and {len(self.parts) - 1} more"

    def rows(self) -> int | None:
        """Approximate number of rows; None if counting would require reading all of them.

        Raises:
            ContractError: a part cannot be read.
        """
        counts = [part.rows() for part in self.parts]
        return None if None in counts else sum(count for count in counts if count is not None)

    def chunks(self, rows: int = CHUNK_ROWS, columns: Sequence[str] | None = None) -> Iterator[Chunk]:
        """All rows, in chunks of at most `rows`; by default with all of the contract's columns.

        Raises:
            ContractError: a part cannot be read, or a column is missing or there twice.
        """
        for part in self.parts:
            ids = IntegerIds(partial(self._column, part, rows))
            for raw, mapped in self._mapped(part, rows, columns):
                read = ids.read(mapped)
                yield Chunk(raw, read.select(list(columns)) if columns else read, part)

    def _mapped(
        self, part: TablePart, rows: int, columns: Sequence[str] | None
    ) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]:
        """A part's rows, as they are and with the contract's columns."""
        needed = self.mapping.sources_of(columns) if columns else None
        mapping = self.mapping.only(columns) if columns else self.mapping
        # columns that differ by chunk, or that it takes a whole query to know
        varies = isinstance(part, QueriedPart) or (isinstance(part, FilePart) and part.kind == "JSON-lines")
        if not varies:
            self._check_columns(part.columns(), part)
        for batch in part.batches(rows, None if varies else needed):
            if varies:
                self._check_columns(batch.schema.names, part)
            yield batch, mapping.apply(batch, part.place)

    def _column(self, part: TablePart, rows: int, name: str) -> Iterator[pa.Array]:
        return (mapped.column(name) for _, mapped in self._mapped(part, rows, [name]))

    def _check_columns(self, there: Sequence[str], part: TablePart) -> None:
        after = self.mapping.names(there, part.place)
        if missing := [name for name in self.contract.needed if name not in after]:
            has = ", ".join(there[:_COLUMNS_SHOWN]) or "none"
            raise ContractError(
                f"{part.place} has no column {', '.join(missing)}: the table {self.contract.name} needs "
                f"{', '.join(self.contract.needed)}, not {has} (`immr data check` proposes a mapping)"
            )
        used = {*self.contract.columns.names, *self.contract.attributes, *self.mapping.sources}
        if twice := sorted({name for name in there if name in used and there.count(name) > 1}):
            raise ContractError(
                f"{part.place} has the column {', '.join(twice)} more than once: keep one of each"
            )


@dataclass(frozen=True)
class Shop:
    """A shop's tables.

    Attributes:
        uri: a folder or file, here or at `s3://`, `gs://` or `https://`; or the URL of a warehouse.
        mapping: columns and places that differ from the contract's.
    """

    uri: str
    mapping: ShopMap = field(default_factory=ShopMap)

    @classmethod
    def of(cls, source: Shop | str | Path, map_file: Path | None = None) -> Shop:
        """A shop by its path or URL; a path that ends in `.toml` is a mapping that names its own source.

        A source that is a relative path starts at the mapping's folder.

        Raises:
            ContractError: the mapping cannot be read, or names no source.
        """
        if isinstance(source, Shop):
            return source
        uri, mapping = str(source), ShopMap.read(map_file) if map_file else ShopMap()
        if uri.endswith(".toml"):
            mapping = ShopMap.read(Path(uri))
            if not mapping.source:
                raise ContractError(
                    f'{uri} does not name its source: add source = "path or URL of the tables"'
                )
            uri = mapping.source if "://" in mapping.source else str(Path(uri).parent / mapping.source)
        if "://" not in uri and Path(uri).is_file() and not is_table(Location.of(uri)):
            raise ContractError(not_a_table(uri))
        return cls(uri, mapping)

    @property
    def name(self) -> str:
        """For messages, without credentials."""
        return without_credentials(self.uri)

    @classmethod
    def catalogue(cls, source: str | Path, map_file: Path | None = None) -> Shop:
        """A shop of which only the items are wanted; the source may be a glob or a file of any name.

        A file or glob takes precedence over the mapping's own `items.source`.

        Raises:
            ContractError: no file of a known kind is there, or the mapping cannot be read.
        """
        shop = cls.of(source, map_file)
        if is_warehouse(shop.uri):
            return shop
        uri = shop.uri if "://" in shop.uri else str(Path(shop.uri).absolute())
        location = Location.of(uri)
        if not location.has_wildcards and not location.is_file():
            if shop.mapping.items.source and not location.is_missing:
                return shop
            if location.is_missing or not location.first_files():
                raise ContractError(
                    f"there is no file {shop.name}{location.problem()}: give a Parquet, CSV or JSON-lines file of "
                    "the items, or a folder"
                )
            return replace(shop, uri=uri)
        if not location.has_wildcards and not is_table(location):
            raise ContractError(not_a_table(shop.name))
        return replace(shop, uri=uri, mapping=shop.mapping.with_source("items", uri))

    @property
    def is_catalogue(self) -> bool:
        """Whether the shop is a single file, which holds items."""
        return not is_warehouse(self.uri) and is_table(Location.of(self.uri))

    @property
    def _is_one_file(self) -> bool:
        return self.is_catalogue and Location.of(self.uri).is_file()

    @listing_once()
    def tables(self) -> list[ShopTable]:
        """The contract's tables, in its order; an optional one that is missing is left out.

        Raises:
            ContractError: a table is missing, or is there in more than one form.
        """
        return [found for contract in CONTRACT if (found := self.table(contract))]

    def attributes(self) -> dict[str, AttributeKind]:
        """What `attributes.toml` beside the tables declares; none without the file.

        Raises:
            ContractError: the file is wrong.
        """
        if is_warehouse(self.uri):
            return {}
        file = Location.of(self._folder()) / attributes.DECLARATION
        return attributes.declared(file.read(), file.uri) if file.is_file() else {}

    def table(self, contract: TableContract, optional: bool | None = None) -> ShopTable | None:
        """One of the contract's tables; None if it is missing and optional.

        Raises:
            ContractError: The table is missing and not optional, or exists in more than one form.
        """
        mapping = self.mapping.table(contract.name)
        if contract is ITEMS:
            contract = contract.with_attributes(self.attributes())
            mapping.check_known(contract, "the mapping")
        if mapping.source and not (contract.name == ITEMS.name and self._is_one_file):
            parts: Sequence[TablePart] = parts_at(self._beside_source(mapping.source), mapping, contract)
        elif is_warehouse(self.uri):
            names = [name for name in tables_of(self.uri) if name == contract.name]
            parts = [WarehousePart(self.uri, name) for name in names]
        else:
            parts = parts_in(Location.of(self.uri), mapping, contract)
        if parts and mapping.sql:
            parts = [QueriedPart(parts, mapping.sql, contract.name)]
        if not parts:
            if contract.optional if optional is None else optional:
                return None
            raise ContractError(self._missing(contract))
        base, folder = self.mapping.pictures.base, self._folder()
        return ShopTable(contract, parts, mapping, picture_files.placed(base, folder) if base else folder)

    def _missing(self, contract: TableContract) -> str:
        columns = f"(columns {', '.join(contract.columns.names)})"
        if source := self.mapping.table(contract.name).source:
            place = without_credentials(self._beside_source(source))
            return f"{place} has no table file: correct {contract.name}.source in the mapping"
        if is_warehouse(self.uri):
            return f"{self.name} has no table {contract.name} {columns}: name another in a mapping (--map)"
        if Location.of(self.uri).is_missing:
            return f"there is no folder {self.name}: correct its path"
        if self._is_one_file:
            return f"{self.name} is one table, the items: give the folder that also has {contract.name}"
        file = Location.of(self.uri) / f"{contract.name}.parquet"
        if contract.name == ITEMS.name and (found := instead_of_tables(Location.of(self.uri))):
            return f"{self.name} has no table items: {found}"
        return (
            f"{self.name.rstrip('/')}/{contract.name}.parquet is missing{file.problem()}: put the table "
            f"{contract.name} there {columns}, or name its file in a mapping (`immr data check` proposes one)"
        )

    def _beside_source(self, source: str) -> str:
        """A table's own source: a name in the warehouse, or a path that may start at the shop's."""
        if is_warehouse(self.uri) and "://" not in source:
            return f"{self.uri}#{source}"
        if "://" in source or source.startswith("/"):
            return source
        return f"{self._folder()}/{source}"

    def _folder(self) -> str:
        if is_warehouse(self.uri):
            return self.name
        location = Location.of(self.uri)
        if location.has_wildcards:
            return re.split(r"/[^/]*[*?\[]", location.uri)[0]
        return location.uri.rpartition("/")[0] if is_table(location) and location.is_file() else location.uri
