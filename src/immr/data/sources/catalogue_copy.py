"""A copy of a shop's catalogue that can be read from another folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from immr.data import attributes
from immr.data.column_types import UnsuitableTypeError, convert
from immr.data.contract import ITEMS
from immr.data.pictures import additional_pictures, picture_files
from immr.data.sources.shop import Shop, ShopTable
from immr.errors import ContractError
from immr.types import AttributeKind


@dataclass(frozen=True)
class CatalogueCopy:
    """The items in the contract's columns and the declared attributes; paths of pictures are absolute.

    Rows are not checked: whoever reads the copy rejects those that the contract does not allow.
    """

    items: pa.Table
    attributes: Mapping[str, AttributeKind]

    @classmethod
    def of(cls, shop: Shop) -> CatalogueCopy:
        """Read the catalogue of a shop; all of it is in memory.

        Raises:
            ContractError: The catalogue is missing, cannot be read, or its files differ in the type of a column.
        """
        table = shop.table(ITEMS, optional=False)
        assert table is not None
        try:
            items = pa.concat_tables(_chunks(table), promote_options="permissive")
        except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
            raise ContractError(
                f"the files of {table.place} differ in the type of a column ({error}): write it alike in all of them"
            ) from error
        return cls(items, table.contract.attributes)

    def write(self, folder: Path) -> None:
        """Write `items.parquet`, and `attributes.toml` if there are attributes."""
        pq.write_table(self.items, folder / "items.parquet")
        if self.attributes:
            lines = [f'{name} = "{kind}"\n' for name, kind in self.attributes.items()]
            (folder / attributes.DECLARATION).write_text("".join(lines))


def _chunks(table: ShopTable) -> list[pa.Table]:
    names = [*(name for name in table.contract.columns.names if name != attributes.COLUMN)]
    names += table.contract.attributes
    return [_chunk(chunk.mapped, names, table.beside, chunk.part.place) for chunk in table.chunks()]


def _chunk(batch: pa.RecordBatch, names: list[str], beside: str, place: str) -> pa.Table:
    columns = {name: batch.column(name) for name in names if name in batch.schema.names}
    columns["image"] = _absolute(columns["image"], beside, place)
    if additional_pictures.COLUMN in columns:
        packed, _ = additional_pictures.pack(columns[additional_pictures.COLUMN], beside, place)
        columns[additional_pictures.COLUMN] = pa.array(packed, pa.string(), from_pandas=True)
    return pa.table(columns)


def _absolute(values: pa.Array, beside: str, place: str) -> pa.Array:
    try:
        texts, _ = convert(values, pa.string())
    except UnsuitableTypeError as error:
        raise ContractError(f"{place}: column image holds {values.type} and should hold text") from error
    placed = [
        picture_files.placed(text, beside) if text and text.strip() else text for text in texts.to_pylist()
    ]
    return pa.array(placed, pa.string())
