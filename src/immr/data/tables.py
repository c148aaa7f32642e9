"""A shop's tables: Parquet, CSV or JSON-lines files, read chunk by chunk."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from immr.data import attributes, images
from immr.data.column_types import NOT_OF_TYPE, UnsuitableTypeError, convert, decoded, is_utf8
from immr.data.contract import TableContract
from immr.errors import ContractError

if TYPE_CHECKING:
    import pandas as pd

CHUNK_ROWS = 131_072
SUFFIXES = (".parquet", ".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".ndjson")


class Typed(NamedTuple):
    """A chunk in the contract's types."""

    frame: pd.DataFrame  # the contract's columns; missing where a value is missing or unreadable
    unreadable: dict[str, npt.NDArray[np.bool_]]  # reason → rows; only reasons that occur


def files_of(folder: Path, contract: TableContract) -> list[Path]:
    """The files of a table, in the order of their names.

    `items.parquet` (or .csv, .jsonl, …), else parts `items-*.parquet`, else all files in and below a folder
    `items` or `items.parquet`. Names that begin with "." or "_" are skipped, as Spark's `_SUCCESS`.

    Raises:
        ContractError: the table is missing and not optional, or is there in more than one form.
    """
    name = contract.name
    whole = [path for suffix in SUFFIXES if (path := folder / f"{name}{suffix}").is_file()]
    if len(whole) > 1:
        raise ContractError(f"{folder} has {' and '.join(path.name for path in whole)}: keep one of them")
    if whole:
        return whole
    found = [*folder.glob(f"{name}-*"), *folder.glob(f"{name}_*")]
    found += [path for place in (folder / name, folder / f"{name}.parquet") for path in place.rglob("*")]
    files = sorted(path for path in found if path.is_file() and _is_table(path))
    if not files and not contract.optional:
        raise ContractError(
            f"{folder / name}.parquet is missing: put the table {name} there (columns "
            f"{', '.join(contract.columns.names)}), as a Parquet, CSV or JSON-lines file or a folder of them"
        )
    return files


def _is_table(path: Path) -> bool:
    return path.name.endswith(SUFFIXES) and not path.name.startswith((".", "_"))


def chunks(
    path: Path, contract: TableContract, rows: int = CHUNK_ROWS, columns: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """The rows of a file as they are: Parquet in its own types, CSV and JSON lines as text.

    Args:
        path: the file.
        contract: of the table.
        rows: at most so many at a time.
        columns: only these.

    Raises:
        ContractError: the file cannot be read, or a column is missing or there twice.
    """
    kind = _kind(path)
    try:
        if kind == "Parquet":
            with pq.ParquetFile(path) as file:
                _check_columns(file.schema_arrow.names, contract, path)
                yield from file.iter_batches(rows, columns=columns)
            return
        for batch in _read_csv(path, contract) if kind == "CSV" else _read_json_lines(path, contract, rows):
            chosen = batch.select(list(columns)) if columns else batch
            yield from (chosen.slice(start, rows) for start in range(0, len(chosen), rows))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ContractError(f"{path} is not a readable {kind} file ({error}): write it again") from error


def columns_of(path: Path) -> list[str]:
    """The names of a file's columns; of JSON lines those in the first line.

    Raises:
        ContractError: the file cannot be read.
    """
    kind = _kind(path)
    try:
        if kind == "Parquet":
            return list(pq.read_schema(path).names)
        if kind == "CSV":
            with csv.open_csv(path) as header:
                return list(header.schema.names)
        with _open_text(path) as file:
            return list(json.loads(file.readline() or "{}"))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ContractError(f"{path} is not a readable {kind} file ({error}): write it again") from error


def _kind(path: Path) -> str:
    return "CSV" if ".csv" in path.name else "Parquet" if path.name.endswith(".parquet") else "JSON-lines"


def _open_text(path: Path) -> Any:
    return gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")


def _read_csv(path: Path, contract: TableContract) -> Iterator[pa.RecordBatch]:
    """All columns as text: a type guessed from the first rows fails at a later one."""
    with csv.open_csv(path) as header:
        names = header.schema.names
    _check_columns(names, contract, path)
    as_text = csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()))
    with csv.open_csv(path, convert_options=as_text) as reader:
        yield from reader


def _read_json_lines(path: Path, contract: TableContract, rows: int) -> Iterator[pa.RecordBatch]:
    number = 0
    with _open_text(path) as file:
        while lines := list(islice(file, rows)):
            places = ((line, f"line {number + at} of {path}") for at, line in enumerate(lines, 1))
            records = [_record(line, contract, place) for line, place in places if line.strip()]
            names = list(dict.fromkeys(name for record in records for name in record))
            _check_columns(names, contract, path)
            yield pa.RecordBatch.from_pydict(
                {name: pa.array([r.get(name) for r in records], pa.string()) for name in names}
            )
            number += len(lines)


def _record(line: str, contract: TableContract, place: str) -> dict[str, str | None]:
    """One object with its values as they are written: no digit of an id or a price is lost."""
    try:
        values = json.loads(line, parse_int=str, parse_float=str, parse_constant=str)
    except ValueError as error:
        raise ContractError(f"{place} is not JSON ({error}): write one object per line") from error
    if not isinstance(values, dict):
        raise ContractError(f"{place} is not an object: write one object per line")
    for name, value in values.items():
        if isinstance(value, list | dict) and name in contract.columns.names:
            raise ContractError(f"{place}: {name} is a list or an object: write a single value")
    texts = (
        None if value is None else value if isinstance(value, str) else json.dumps(value)
        for value in values.values()
    )
    return dict(zip(values, texts, strict=True))


def _check_columns(there: Sequence[str], contract: TableContract, path: Path) -> None:
    if missing := [name for name in contract.needed if name not in there]:
        raise ContractError(
            f"{path} has no column {', '.join(missing)}: the table {contract.name} needs "
            f"{', '.join(contract.needed)}"
        )
    if twice := sorted({name for name in there if there.count(name) > 1}):
        raise ContractError(f"{path} has the column {', '.join(twice)} more than once: keep one of each")


def typed(batch: pa.RecordBatch, contract: TableContract, path: Path, beside: Path) -> Typed:
    """The contract's columns of a chunk; a value that does not fit its column's type is unreadable.

    Args:
        batch: as read from `path`.
        contract: of the table.
        path: named in errors.
        beside: the folder that relative paths of pictures start from.

    Raises:
        ContractError: a whole column is of a type that cannot be read.
    """
    import pandas as pd

    columns: dict[str, Any] = {}
    unreadable = {}
    for column in contract.columns:
        name = column.name
        if name == attributes.COLUMN:
            columns[name], not_of_kind = attributes.pack(batch, contract.attributes, path)
            unreadable.update(not_of_kind)
            continue
        if name not in batch.schema.names:
            columns[name] = pd.Series(np.nan, index=range(len(batch)))
            continue
        values = batch.column(name)
        try:
            converted, given = convert(values, column.type)
        except (UnsuitableTypeError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise ContractError(
                f"{path}: column {name} holds {values.type} and should hold {column.type}: {error}"
            ) from error
        lost = given.to_numpy(zero_copy_only=False) & converted.is_null().to_numpy(zero_copy_only=False)
        if lost.any():
            unreadable[f"{name} {NOT_OF_TYPE[column.type]}"] = lost
        columns[name] = _series(converted)
    frame = pd.DataFrame(columns)
    if "description" in frame:
        frame["description"] = frame["description"].fillna("")
    if "image" in frame:
        frame["image"] = _placed(frame["image"], beside)
    return Typed(frame, unreadable)


def _series(values: pa.Array) -> Any:
    import pandas as pd

    if pa.types.is_string(values.type):
        return pd.Series(values, dtype=pd.ArrowDtype(pa.string()))
    return values.to_pandas()


def _placed(uris: pd.Series[str], beside: Path) -> pd.Series[str]:
    """Relative paths of pictures made absolute, so that later steps find them from any working folder."""
    relative = ~(uris.str.startswith("/") | uris.str.contains("://", regex=False) | (uris.str.strip() == ""))
    relative = relative.fillna(False).astype(bool)
    if relative.any():
        uris[relative] = uris[relative].map(lambda uri: images.placed(uri, beside))
    return uris


def readable(table: pa.Table) -> pa.Table:
    """The same table with � in place of bytes that are not UTF-8, so that any reader can open it."""
    for number, column in enumerate(table.schema):
        if (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)) and not is_utf8(
            table.column(number)
        ):
            texts = decoded(table.column(number).combine_chunks(), errors="replace").cast(column.type)
            table = table.set_column(number, column, texts)
    return table
