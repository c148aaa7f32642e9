"""Rows that repeat a key, and merging them into the first: an impression is clicked if any of its rows is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from immr.data.contract import TableContract
from immr.data.validation.known_keys import Hashes, KnownKeys, hashes_of

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class LaterRows:
    """Of rows that repeat a key: the hashes of those in which a merged column is true."""

    hashes: Mapping[str, Hashes]  # column → keys

    @classmethod
    def of(cls, frame: pd.DataFrame, hashes: Hashes, contract: TableContract) -> LaterRows:
        """From rows of a table and the hashes of their keys, in the same order."""
        return cls({name: hashes[frame[name].eq(True).to_numpy()] for name in contract.merged})


def are_repeated(
    frame: pd.DataFrame, reasons: pd.Series[str], contract: TableContract, before: KnownKeys
) -> pd.Series[bool]:
    """Which good rows repeat the key of a row before them.

    Args:
        frame: rows of a table.
        reasons: why each is rejected; empty for a good one.
        contract: of the table.
        before: keys of the good rows before these; those of these are added.
    """
    good, hashes = reasons == "", hashes_of(frame, contract.key)
    repeated = frame.loc[good, list(contract.key)].duplicated().reindex(frame.index, fill_value=False)
    repeated = good & (repeated | before.contain(hashes))
    before.add(hashes[(good & ~repeated).to_numpy()])
    return repeated


def why_repeated(contract: TableContract) -> str:
    """The reason for rejecting a row that repeats a key."""
    keys = " and ".join(contract.key)
    return f"merged into the first row with the same {keys}" if contract.merged else f"duplicate {keys}"


def merge_into_first(path: Path, contract: TableContract, later: Sequence[LaterRows]) -> None:
    """Rewrite a table of first rows, with a merged column true where it is in a later row of the same key."""
    true_in = {name: np.concatenate([rows.hashes[name] for rows in later]) for name in contract.merged}
    if not any(len(hashes) for hashes in true_in.values()):
        return
    merged = path.with_name(f".{path.name}")
    with pq.ParquetFile(path) as file, pq.ParquetWriter(merged, contract.columns) as writer:
        for batch in file.iter_batches():
            hashes = hashes_of(_keys(batch, contract), contract.key)
            for name, there in true_in.items():
                either = pc.or_(batch.column(name), pa.array(np.isin(hashes, there)))
                batch = batch.set_column(
                    batch.schema.get_field_index(name), contract.columns.field(name), either
                )
            writer.write_batch(batch)
    merged.replace(path)


def _keys(batch: pa.RecordBatch, contract: TableContract) -> pd.DataFrame:
    import pandas as pd

    text = pd.ArrowDtype(pa.string())
    return pd.DataFrame({name: pd.Series(batch.column(name), dtype=text) for name in contract.key})
