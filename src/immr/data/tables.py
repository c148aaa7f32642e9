"""Tables as a shop has them: Parquet files, read chunk by chunk, each value brought to its column's type."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq

from immr.data import images
from immr.data.contract import TIMESTAMP, TableContract
from immr.errors import ContractError

if TYPE_CHECKING:
    import pandas as pd

CHUNK_ROWS = 131_072

_KINDS = {
    pa.string(): "no UTF-8 text",
    pa.float64(): "no number",
    pa.int64(): "no number",
    pa.bool_(): "neither true nor false",
    TIMESTAMP: "no time in ISO 8601",
}
_TRUTHS = {True: True, False: False, "true": True, "false": False, "1": True, "0": False}


class Typed(NamedTuple):
    """A chunk in the contract's types."""

    frame: pd.DataFrame  # the contract's columns; missing where a value is missing or unreadable
    unreadable: dict[str, npt.NDArray[np.bool_]]  # what is wrong → rows; only where there are any


def files_of(folder: Path, contract: TableContract) -> list[Path]:
    """The files of a table: `<name>.parquet`, or those in a folder `<name>` or `<name>.parquet`.

    Raises:
        ContractError: there is none, and the table is not optional.
    """
    single, parts = folder / f"{contract.name}.parquet", folder / contract.name
    if single.is_file():
        return [single]
    files = sorted((single if single.is_dir() else parts).glob("*.parquet"))
    if not files and not contract.optional:
        raise ContractError(
            f"{single} is missing: put the table {contract.name} there "
            f"(columns {', '.join(contract.columns.names)}), as one Parquet file or a folder of them"
        )
    return files


def chunks(
    path: Path, contract: TableContract, rows: int = CHUNK_ROWS, columns: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """The rows of a Parquet or CSV file as they are, all columns or these.

    Raises:
        ContractError: the file cannot be read, or a column is missing or there twice.
    """
    kind = "CSV" if path.suffix == ".csv" else "Parquet"
    try:
        if kind == "CSV":
            table = _read_csv(path, contract)
            _check_columns(table.column_names, contract, path)
            yield from (table.select(columns) if columns else table).to_batches(rows)
            return
        with pq.ParquetFile(path) as file:
            _check_columns(file.schema_arrow.names, contract, path)
            yield from file.iter_batches(rows, columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise ContractError(f"{path} is no readable {kind} file ({error}): write it again") from error


def _read_csv(path: Path, contract: TableContract) -> pa.Table:
    text = {column.name: column.type for column in contract.columns if column.type == pa.string()}
    return csv.read_csv(path, convert_options=csv.ConvertOptions(column_types=text))


def _check_columns(there: list[str], contract: TableContract, path: Path) -> None:
    if missing := [name for name in contract.needed if name not in there]:
        raise ContractError(
            f"{path} has no column {', '.join(missing)}: the table {contract.name} needs "
            f"{', '.join(contract.needed)}"
        )
    if twice := sorted({name for name in there if there.count(name) > 1}):
        raise ContractError(f"{path} has the column {', '.join(twice)} more than once: keep one of each")


def typed(batch: pa.RecordBatch, contract: TableContract, path: Path, beside: Path) -> Typed:
    """The contract's columns of a chunk; a value that cannot be of the column's type is unreadable.

    Args:
        batch: as read from `path`.
        contract: of the table.
        path: for what goes wrong.
        beside: the folder that relative paths of pictures start from.

    Raises:
        ContractError: a whole column is of a useless type.
    """
    import pandas as pd

    columns: dict[str, Any] = {}
    unreadable = {}
    for column in contract.columns:
        if column.name not in batch.schema.names:
            columns[column.name] = pd.Series(np.nan, index=range(len(batch)))
            continue
        values = batch.column(column.name)
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        try:
            cast = _cast(values, column.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, TypeError, ValueError) as error:
            raise ContractError(
                f"{path}: column {column.name} holds {values.type} and should hold {column.type} ({error}): "
                "convert it before writing the table"
            ) from error
        given = ~np.asarray(pc.is_null(values, nan_is_null=True))
        if (lost := given & cast.isna().to_numpy(dtype=bool)).any():
            unreadable[f"{column.name} is {_KINDS[column.type]}"] = lost
        columns[column.name] = cast
    frame = pd.DataFrame(columns)
    if "description" in frame:
        frame["description"] = frame["description"].fillna("")
    if "image" in frame:
        frame["image"] = _placed(frame["image"], beside)
    return Typed(frame, unreadable)


def _cast(values: pa.Array, wanted: pa.DataType) -> Any:
    import pandas as pd

    textual = pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
    if wanted == pa.string():
        return pd.Series(_text(values), dtype=pd.ArrowDtype(pa.string()))
    if wanted == TIMESTAMP:
        if textual:
            moments = pd.to_datetime(values.to_pandas(), utc=True, errors="coerce", format="ISO8601")
            return moments.dt.as_unit("us")
        if pa.types.is_integer(values.type):
            raise TypeError("seconds or microseconds? a number does not say")
        return pc.cast(values, TIMESTAMP, safe=False).to_pandas()
    if wanted == pa.bool_():
        words = [word.lower() if textual and word else word for word in values.to_pylist()]
        return pd.Series(words, dtype=object).map(_TRUTHS)
    if textual:
        return pd.to_numeric(values.to_pandas(), errors="coerce").astype(float)
    return pc.cast(values, pa.float64(), safe=False).to_pandas()


def _text(values: pa.Array) -> pa.Array:
    """As strings; what is no UTF-8 becomes missing."""
    try:
        text = pc.cast(values, pa.string())
        text.validate(full=True)
    except pa.ArrowInvalid:
        contents = pc.cast(values, pa.binary()).to_pylist()
        text = pa.array([_decoded(content) for content in contents], pa.string())
    return text


def _decoded(content: bytes | None) -> str | None:
    try:
        return content.decode() if content is not None else None
    except UnicodeDecodeError:
        return None


def _placed(uris: pd.Series[str], beside: Path) -> pd.Series[str]:
    """Relative paths of pictures made whole, so that they are found from wherever later steps run."""
    relative = ~(uris.str.startswith("/") | uris.str.contains("://", regex=False) | (uris.str.strip() == ""))
    relative = relative.fillna(False).astype(bool)
    if relative.any():
        uris[relative] = uris[relative].map(lambda uri: images.placed(uri, beside))
    return uris


def readable(table: pa.Table) -> pa.Table:
    """The same table with � for what is no UTF-8, so that any reader can open what is written of it."""
    for number, column in enumerate(table.schema):
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            try:
                table.column(number).validate(full=True)
            except pa.ArrowInvalid:
                contents = table.column(number).cast(pa.binary()).to_pylist()
                texts = [content and content.decode(errors="replace") for content in contents]
                table = table.set_column(number, column, pa.chunked_array([pa.array(texts, column.type)]))
    return table
