"""A chunk of a shop's table in the data contract's types."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from immr.data import attributes
from immr.data.column_types import UnsuitableTypeError, convert, decoded, is_utf8, why_lost
from immr.data.contract import TableContract
from immr.data.mapping.category_paths import canonical_path
from immr.data.pictures import additional_pictures, picture_files
from immr.data.sources.table_parts import MALFORMED
from immr.errors import ContractError
from immr.types import MISSING_VALUES

if TYPE_CHECKING:
    import pandas as pd


class Typed(NamedTuple):
    """A chunk in the contract's types."""

    frame: pd.DataFrame  # the contract's columns; missing where a value is missing or unreadable
    unreadable: dict[str, npt.NDArray[np.bool_]]  # reason → rows; only reasons that occur


def typed(batch: pa.RecordBatch, contract: TableContract, place: str, beside: str) -> Typed:
    """The contract's columns of a chunk; a value that does not fit its column's type is unreadable.

    Args:
        batch: rows with the contract's columns.
        contract: of the table.
        place: where the rows are, for messages.
        beside: the folder or URL that relative paths of pictures start from.

    Raises:
        ContractError: a whole column is of a type that cannot be read.
    """
    import pandas as pd

    columns: dict[str, Any] = {}
    unreadable: dict[str, npt.NDArray[np.bool_]] = {}
    if MALFORMED in batch.schema.names:
        malformed = batch.column(MALFORMED).is_valid()
        unreadable[f"{MALFORMED} has too many or too few columns"] = malformed.to_numpy(zero_copy_only=False)
    for column in contract.columns:
        name, lost = column.name, dict[str, npt.NDArray[np.bool_]]()
        if name == attributes.COLUMN:
            columns[name], lost = attributes.pack(batch, contract.attributes, place)
        elif name not in batch.schema.names:
            columns[name] = pd.Series(np.nan, index=range(len(batch)))
        elif name == additional_pictures.COLUMN:
            main = pa.array(columns["image"].str.strip()).to_pylist()
            columns[name], lost = additional_pictures.pack(batch.column(name), beside, place, main)
        else:
            columns[name], lost = _converted(batch.column(name), column, place)
        unreadable.update(lost)
    return Typed(_tidied(pd.DataFrame(columns), beside), unreadable)


def _converted(
    values: pa.Array, column: pa.Field, place: str
) -> tuple[pd.Series[Any], dict[str, npt.NDArray[np.bool_]]]:
    """A column's values in its type, and which could not be read, by reason."""
    try:
        converted, given = convert(values, column.type)
    except (UnsuitableTypeError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ContractError(
            f"{place}: column {column.name} holds {values.type} and should hold {column.type}: {error}"
        ) from error
    lost = given.to_numpy(zero_copy_only=False) & converted.is_null().to_numpy(zero_copy_only=False)
    return _series(converted), {f"{column.name} {why_lost(values, column.type)}": lost} if lost.any() else {}


def _tidied(frame: pd.DataFrame, beside: str) -> pd.DataFrame:
    """The columns whose values may be written in several ways, each in one."""
    if "description" in frame:
        texts = frame["description"].fillna("")
        frame["description"] = texts.mask(texts.str.strip().isin(MISSING_VALUES), "")
    if "category" in frame:
        frame["category"] = _in_one_form(frame["category"])
    if "image" in frame:
        frame["image"] = _placed(frame["image"], beside)
    if "stock" in frame:
        frame["stock"] = _sold_out(frame["stock"])
    return frame


def _series(values: pa.Array) -> Any:
    import pandas as pd

    if pa.types.is_string(values.type):
        return pd.Series(values, dtype=pd.ArrowDtype(pa.string()))
    return values.to_pandas()


def _sold_out(stock: pd.Series[float]) -> pd.Series[float]:
    """Shops that take orders beyond their stock count below zero."""
    return stock.mask((stock < 0) & (stock > -np.inf), 0.0)


def _in_one_form(categories: pd.Series[str]) -> pd.Series[str]:
    """Equal paths written alike; a shop has few of them and many items."""
    import pandas as pd

    changed = {
        path: found for path in categories.dropna().unique() if (found := canonical_path(path)) != path
    }
    if not changed:
        return categories
    renamed = categories.map(lambda path: changed.get(path, path), na_action="ignore")
    return renamed.astype(pd.ArrowDtype(pa.string()))


def _placed(uris: pd.Series[str], beside: str) -> pd.Series[str]:
    """Relative paths of pictures made absolute, so that later steps find them from any working folder."""
    uris = uris.str.strip()
    relative = ~(uris.str.startswith("/") | uris.str.contains("://", regex=False) | (uris.str.strip() == ""))
    relative = relative.fillna(False).astype(bool)
    if relative.any():
        uris[relative] = uris[relative].map(lambda uri: picture_files.placed(uri, beside))
    return uris


def printed(value: pa.Scalar, form: Callable[[Any], str] = repr) -> str:
    """A value as text, whatever it is: a time that Python cannot express is described by its type."""
    try:
        return form(value.as_py())
    except (OverflowError, ValueError, KeyError):  # or of an unknown zone, or bytes that are not UTF-8
        return f"a {value.type} that cannot be printed"


def rows_where(batch: pa.RecordBatch, chosen: npt.NDArray[np.bool_]) -> pa.Table:
    """Some rows as any reader can open them; values of a type that Arrow cannot filter, such as views, become text.

    Args:
        batch: N rows.
        chosen: (N,) which of them.
    """
    mask = pa.array(chosen)
    columns = [_filtered(column, mask) for column in batch.columns]
    return readable(pa.Table.from_arrays(columns, names=batch.schema.names))


def _filtered(column: pa.Array, mask: pa.Array) -> pa.Array:
    try:
        return column.filter(mask)
    except pa.ArrowNotImplementedError:
        kept = (value for value, is_kept in zip(column, mask, strict=True) if is_kept.as_py())
        return pa.array([printed(value, str) if value.is_valid else None for value in kept], pa.string())


def readable(table: pa.Table) -> pa.Table:
    """The same table with � in place of bytes that are not UTF-8, so that any reader can open it."""
    for number, column in enumerate(table.schema):
        if (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)) and not is_utf8(
            table.column(number)
        ):
            texts = decoded(table.column(number).combine_chunks(), errors="replace").cast(column.type)
            table = table.set_column(number, column, texts)
    return table
