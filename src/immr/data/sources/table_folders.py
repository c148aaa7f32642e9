"""The files of a folder that are one of the contract's tables."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from immr.data.contract import TableContract
from immr.data.mapping.shop_map import TableMap
from immr.data.pictures import additional_pictures
from immr.data.sources.files import SUFFIXES, FilePart, is_table, may_be_anything, why_no_table
from immr.data.sources.locations import Location
from immr.data.sources.table_parts import TablePart
from immr.data.sources.warehouse import WarehousePart, is_warehouse
from immr.errors import ContractError
from immr.machine.wording import counted

_SPARKS = (".parquet", ".csv", ".json")  # folders
_PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")


def parts_at(source: str, mapping: TableMap, contract: TableContract) -> Sequence[TablePart]:
    """The parts of a table at its own source: a warehouse, a file, a folder or a path with wildcards.

    Raises:
        ContractError: a file system does not answer.
    """
    if is_warehouse(source):
        url, _, name = source.partition("#")
        return [WarehousePart(url, name or contract.name)]
    location = Location.of(source)
    found = list(location.matching())
    return _files(found or location.files(recursive=True), location, mapping, contract)


def parts_in(location: Location, mapping: TableMap, contract: TableContract) -> list[FilePart]:
    """The files of a table in a folder, in the order of their names; a single file is a catalogue.

    A table is `items.parquet` (or .csv, .jsonl, …), else parts `items-*.parquet` and all files in and below a folder
    `items`, or `items.parquet`, `items.csv` …, as Spark names its folders. An `items.json` beside such parts may be
    anything, such as their schema.

    Raises:
        ContractError: beside the table's file there is another file or folder of it, or a file system does not
            answer.
    """
    name = contract.name
    if is_table(location) and location.is_file():
        return [_file(location, location, mapping, contract)] if name == "items" else []
    likely = [f"{name}{suffix}" for suffix in SUFFIXES if not suffix.startswith(".txt")]
    whole, folders = location.there(
        list(dict.fromkeys([*likely, name, *(f"{name}{each}" for each in _SPARKS)]))
    )
    whole = _sure([path for path in whole if path.name in likely])
    if len(whole) > 1 or (whole and not may_be_anything(whole[0])):
        # of a folder of pictures beside the file, a look at the first is enough
        forms = [path.name for path in whole]
        forms += [f"{folder.name}/" for folder in folders if _has_table(folder.first_files())]
        if len(forms) > 1:
            raise ContractError(
                f"{location.uri} has {' and '.join(forms)}, and each may be the table {name}: keep one of them, and "
                "remove or rename what is out of date"
            )
        return _files(whole, location, mapping, contract)
    below = [folder.files(recursive=True) for folder in folders]
    named = (f"{name}-", f"{name}_", f"{name}.txt")
    beside = [each for each in location.files() if each.name.startswith(named)]
    parts = sorted([*beside, *chain.from_iterable(below)], key=lambda each: each.path)
    return _files(parts if not whole or _has_table(parts) else whole, location, mapping, contract)


def instead_of_tables(location: Location) -> str:
    """What a folder of this machine has in place of the catalogue, and what to do; empty if that is not known."""
    folder, files = location.local, location.files()
    if folder is None or any(map(is_table, files)):
        return ""
    names = [file.name for file in files]
    if why := next((f"{name} {why}" for name in names if (why := why_no_table(name))), ""):
        return why
    below = (found for found in sorted(folder.glob("*/*")) if found.is_file())
    if found := next((each for each in below if is_table(Location.of(each))), None):
        return f"{found} may be it: give that file, or its folder"
    if pictures := [name for name in names if name.lower().endswith(_PICTURES)]:
        return (
            f"it has {counted(len(pictures), 'picture')}, but no table with a row for each item: write one, such as "
            "items.csv with the columns item_id, title, price and image, and let `immr data check` map it"
        )
    return ""


def _has_table(files: Sequence[Location]) -> bool:
    """Whether one of the files is a table, and neither a schema nor a note."""
    return any(is_table(each) and not may_be_anything(each) for each in files)


def _files(
    locations: Sequence[Location], folder: Location, mapping: TableMap, contract: TableContract
) -> list[FilePart]:
    """Those that are tables. Of several, text files of no bytes are left out: Spark writes them for no rows."""
    tables = _sure([each for each in locations if is_table(each)])
    filled = [each for each in tables if not each.is_empty or each.name.endswith(".parquet")]
    return [_file(each, folder, mapping, contract) for each in filled or tables]


def _sure(tables: list[Location]) -> list[Location]:
    """Beside files of other kinds, a .json or .txt may be anything, such as a schema or a note."""
    return [each for each in tables if not may_be_anything(each)] or tables


def _file(location: Location, folder: Location, mapping: TableMap, contract: TableContract) -> FilePart:
    named = (frozenset(contract.columns.names) | contract.attributes.keys()) - mapping.columns.keys()
    keywords = {name for name, kind in contract.attributes.items() if kind == "keywords"}
    lists = {additional_pictures.COLUMN, *keywords}
    by_sql = bool(mapping.sql) or any(rule.sql for rule in mapping.columns.values())  # may read any column
    return FilePart(
        location,
        mapping.delimiter,
        mapping.encoding,
        flat=frozenset() if mapping.sql else (named - lists) | mapping.single_values(lists),
        read=None if by_sql else named | mapping.sources,
        partitions=folder.partitions(location),
    )
