"""Finds tables in files that are not named after them, by their columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from immr.data.contract import CONTRACT, ITEMS, QUERIES, TableContract
from immr.data.mapping.column_names import known_columns
from immr.data.mapping.encodings import encoding_of, words_in
from immr.data.mapping.known_systems import known_system
from immr.data.sources.files import FilePart, is_table, why_no_table
from immr.data.sources.locations import Location
from immr.data.sources.shop import Shop
from immr.data.sources.warehouse import is_warehouse
from immr.errors import ContractError

_COLUMNS_SHOWN = 8
_WHERE = {
    ITEMS.name: "if it has the items, check this file alone for a mapping",
    QUERIES.name: "if it has events, make queries and impressions of it with sql in a mapping (docs/mapping.md)",
}
_ENOUGH = 0.6  # of the columns that a table needs


def with_recognized_tables(shop: Shop) -> Shop:
    """The shop with a `source` for each required table that it lacks, where a file's columns look like that table.

    Only the files directly in the shop's folder are considered, each for one table. Of several that fit equally, it
    is the largest.
    """
    if is_warehouse(shop.uri) or shop.is_catalogue:
        return shop
    places = {contract.name: _places(shop, contract) for contract in CONTRACT}
    wanted = [contract for contract in CONTRACT if not contract.optional and not places[contract.name]]
    taken = {place for found in places.values() for place in found}
    free = [file for file in Location.of(shop.uri).files() if is_table(file) and file.uri not in taken]
    files = {file.name: (_columns(file), file.size() or 0) for file in free}
    scores = [
        (_share(contract, columns), contract.name, size, name)
        for contract in wanted
        for name, (columns, size) in files.items()
    ]
    mapping, used = shop.mapping, set[str]()
    for score, table, _, name in sorted(scores, reverse=True):
        if score >= _ENOUGH and not {table, name} & used:
            used |= {table, name}
            mapping = mapping.with_source(table, name)
    return replace(shop, mapping=mapping)


def files_like(shop: Shop, name: str) -> list[str]:
    """The other files in the shop's folder that have the columns of this one."""
    folder = Location.of(shop.uri)
    columns = _columns(folder / name)
    files = [file for file in folder.files() if is_table(file) and file.name != name]
    return [file.name for file in files if _columns(file) == columns]


def unused_files(shop: Shop, missing: TableContract) -> list[str]:
    """A sentence for each file in the shop's folder that may have the rows of a missing table of items or queries.

    It has other columns than any table, or cannot be read; the latter is reported for the items only.
    """
    if missing.name not in _WHERE or is_warehouse(shop.uri) or shop.is_catalogue:
        return []
    taken = {place for contract in CONTRACT for place in _places(shop, contract)}
    files = [file for file in Location.of(shop.uri).files() if file.uri not in taken]
    unreadable = _why_unreadable if missing is ITEMS else lambda _: ""  # once is enough
    found = ((file, unreadable(file) or _why_unrecognized(file, missing)) for file in files)
    return [f"{file.name} {why}" for file, why in found if why]


def _why_unreadable(file: Location) -> str:
    if not is_table(file):
        return why_no_table(file.name)
    try:
        decodable(FilePart(file)).columns()
    except ContractError as error:
        return f"cannot be read ({error})"
    return ""


def _why_unrecognized(file: Location, missing: TableContract) -> str:
    if not is_table(file):
        return ""
    shown = ", ".join(_columns(file)[:_COLUMNS_SHOWN])
    return f"has other columns than any table ({shown}): {_WHERE[missing.name]}"


def decodable(part: FilePart) -> FilePart:
    """The same file with the encoding that its first bytes suggest, unless it has one."""
    if part.kind == "Parquet" or part.encoding:
        return part
    return replace(part, encoding=encoding_of(part.start()))


def about_encoding(part: FilePart) -> str:
    """A note with words of the file, from which a reader can judge its encoding."""
    words = words_in(part.start(), part.encoding)
    return f"encoding: as {part.encoding}, it has words such as {words}; if they look wrong, name another encoding"


def _places(shop: Shop, contract: TableContract) -> list[str]:
    """The files of a table; empty if it is missing."""
    try:
        table = shop.table(contract, optional=True)
    except ContractError as error:  # in several forms, or unreadable: the check reports it
        return [str(error)]
    return [part.place for part in table.parts] if table else []


def _columns(file: Location) -> Sequence[str]:
    try:
        return decodable(FilePart(file)).columns()
    except ContractError:
        return ()


def _share(contract: TableContract, there: Sequence[str]) -> float:
    if contract.name == ITEMS.name and known_system(there):
        return 1.0
    return len(known_columns(contract.needed, there)) / len(contract.needed)
