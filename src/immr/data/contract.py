"""The data contract at the door: good rows go in, bad rows go to `rejected/` with their reason."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from immr.errors import ContractError

if TYPE_CHECKING:
    import pandas as pd

TIMESTAMP = pa.timestamp("us", tz="UTC")
CHUNK_ROWS = 131_072


@dataclass(frozen=True)
class TableContract:
    """What one table must be."""

    name: str
    columns: pa.Schema
    key: tuple[str, ...]
    refers_to: Mapping[str, str] = field(default_factory=dict)  # column → table that must know its value
    apart_from: str | None = None  # a table that must not know the key
    optional: bool = False
    may_lack: frozenset[str] = frozenset()  # columns that may be missing, as may their values


ITEMS = TableContract(
    name="items",
    columns=pa.schema(
        {
            "item_id": pa.string(),
            "title": pa.string(),
            "description": pa.string(),
            "category": pa.string(),
            "image": pa.string(),
            "price": pa.float64(),
            "updated_at": TIMESTAMP,
            "stock": pa.float64(),
        }
    ),
    key=("item_id",),
    may_lack=frozenset({"stock"}),
)
QUERIES = TableContract(
    name="queries",
    columns=pa.schema(
        {"query_id": pa.string(), "user_id": pa.string(), "ts": TIMESTAMP, "image": pa.string()}
    ),
    key=("query_id",),
)
IMPRESSIONS = TableContract(
    name="impressions",
    columns=pa.schema(
        {
            "query_id": pa.string(),
            "item_id": pa.string(),
            "position": pa.int64(),
            "clicked": pa.bool_(),
            "ordered": pa.bool_(),
            "variant": pa.string(),
            "model_version": pa.string(),
            "ts": TIMESTAMP,
        }
    ),
    key=("query_id", "item_id"),
    refers_to={"query_id": "queries", "item_id": "items"},
)
JUDGEMENTS = TableContract(
    name="judgements",
    columns=pa.schema({"query_id": pa.string(), "image": pa.string(), "item_id": pa.string()}),
    key=("query_id",),
    refers_to={"item_id": "items"},
    apart_from="queries",
    optional=True,
)
CONTRACT = (ITEMS, QUERIES, IMPRESSIONS, JUDGEMENTS)
"""In the order of admission: a table comes after those it refers to."""


@dataclass(frozen=True)
class TableCounts:
    """rows_in = valid + the sum of rejected."""

    rows_in: int
    valid: int
    rejected: Mapping[str, int]  # reason → rows


@dataclass(frozen=True)
class Admission:
    """What came in: `<folder>/<table>.parquet`; and what did not: `<folder>/rejected/<table>.parquet`."""

    folder: Path
    tables: Mapping[str, TableCounts]

    def path(self, table: str) -> Path:
        """Where the valid rows of a table are."""
        return self.folder / f"{table}.parquet"


def admit(folder: Path, out: Path, chunk_rows: int = CHUNK_ROWS) -> Admission:
    """Check the tables in `folder`, each a Parquet file or a folder of Parquet files, chunk by chunk.

    A row is rejected for the first rule that it breaks. Of two rows with one key the first stays. Besides a
    chunk, only eight bytes per row are held, a 64-bit hash of its key: that two of ten million keys collide
    and are taken for one has a chance of three in a million.

    Raises:
        ContractError: a table or column is missing or of a useless type, or a table has no valid row.
    """
    known: dict[str, _Keys] = {}
    counts = {}
    for contract in CONTRACT:
        files = _files(folder, contract)
        if files:
            counts[contract.name] = _admit_table(contract, files, out, known, chunk_rows)
    return Admission(out, counts)


def admit_table(contract: TableContract, file: Path, out: Path) -> TableCounts:
    """Check one table on its own, with no other to refer to, into `<out>/<table>.parquet`; see `admit`.

    Raises:
        ContractError: a column is missing or of a useless type, or there is no valid row.
    """
    return _admit_table(contract, [file], out, {}, CHUNK_ROWS)


class _Keys:
    """64-bit hashes of the keys that were admitted, in sorted runs, each at least twice as long as the next.

    So a key is moved a logarithmic number of times, and a lookup goes through as many runs.
    """

    def __init__(self) -> None:
        self._runs: list[npt.NDArray[np.uint64]] = []

    def contain(self, hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
        known = np.zeros(len(hashes), dtype=bool)
        order = np.argsort(hashes)
        in_order = hashes[order]  # neighbours are looked up one after the other: several times faster
        for run in self._runs:
            at = np.searchsorted(run, in_order).clip(max=len(run) - 1)
            known[order] |= run[at] == in_order
        return known

    def add(self, hashes: npt.NDArray[np.uint64]) -> None:
        run = np.sort(hashes)
        while self._runs and len(self._runs[-1]) < 2 * len(run):
            run = np.sort(np.concatenate([self._runs.pop(), run]), kind="stable")
        if len(run):
            self._runs.append(run)


def _files(folder: Path, contract: TableContract) -> list[Path]:
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


def _admit_table(
    contract: TableContract, files: list[Path], out: Path, known: dict[str, _Keys], chunk_rows: int
) -> TableCounts:
    known[contract.name] = _Keys()
    rules = _rules(contract)
    rows_in, valid, rejected = 0, 0, Counter[str]()
    (out / "rejected").mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(out / f"{contract.name}.parquet", contract.columns) as accepted:
        for path in files:
            with _Aside(out / "rejected" / f"{contract.name}.parquet", append=path != files[0]) as aside:
                for batch in _batches(path, contract, chunk_rows):
                    frame = _typed(batch, contract, path)
                    reasons = _reasons(frame, contract, rules, known)
                    good = (reasons == "").to_numpy()
                    accepted.write_table(_table(frame[good], contract))
                    aside.write(batch, reasons, ~good)
                    rows_in, valid = rows_in + len(good), valid + int(good.sum())
                    rejected.update(reasons[~good].tolist())
    if not valid and (rows_in or not contract.optional):
        raise ContractError(_nothing_valid(files, contract, rows_in, rejected))
    return TableCounts(rows_in, valid, dict(sorted(rejected.items())))


def _nothing_valid(files: list[Path], contract: TableContract, rows_in: int, rejected: Counter[str]) -> str:
    where = files[0] if len(files) == 1 else files[0].parent
    if not rows_in:
        return f"{where} has no rows: the table {contract.name} needs at least one"
    most = "; ".join(f"{reason} ({rows} rows)" for reason, rows in rejected.most_common(3))
    return f"{where}: none of its {rows_in} rows keeps the data contract. Correct this first: {most}"


class _Aside:
    """Writes rejected rows as they came, plus `reason`; makes no file when there are none."""

    def __init__(self, path: Path, append: bool) -> None:
        self._path = path if not append else _free_name(path)
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> _Aside:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._writer:
            self._writer.close()

    def write(self, batch: pa.RecordBatch, reasons: pd.Series[str], bad: npt.NDArray[np.bool_]) -> None:
        if not bad.any():
            return
        rows = pa.Table.from_batches([batch]).filter(pa.array(bad))
        rows = rows.append_column("reason", pa.array(reasons[bad].tolist(), pa.string()))
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, rows.schema)
        self._writer.write_table(rows)


def _free_name(path: Path) -> Path:
    """Parts of a table may differ in type, so the rejects of a second part get a file of their own."""
    number = 2
    while (candidate := path.with_stem(f"{path.stem}-{number}")).exists():
        number += 1
    return candidate if path.exists() else path


def _batches(path: Path, contract: TableContract, chunk_rows: int) -> Iterator[pa.RecordBatch]:
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise ContractError(f"{path} is no readable Parquet file ({error}): write it again") from error
    with file:
        needed = [name for name in contract.columns.names if name not in contract.may_lack]
        missing = [name for name in needed if name not in file.schema_arrow.names]
        if missing:
            raise ContractError(
                f"{path} has no column {', '.join(missing)}: the table {contract.name} needs "
                f"{', '.join(needed)}"
            )
        yield from file.iter_batches(chunk_rows)


def _typed(batch: pa.RecordBatch, contract: TableContract, path: Path) -> pd.DataFrame:
    """The contract's columns; a value that is not of the column's type becomes missing."""
    import pandas as pd

    columns: dict[str, Any] = {}
    for column in contract.columns:
        if column.name not in batch.schema.names:
            columns[column.name] = pd.Series(np.nan, index=range(len(batch)))
            continue
        values = batch.column(column.name)
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        try:
            columns[column.name] = _cast(values, column.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, TypeError, ValueError) as error:
            raise ContractError(
                f"{path}: column {column.name} holds {values.type} and should hold {column.type} ({error}): "
                "convert it before writing the table"
            ) from error
    frame = pd.DataFrame(columns)
    if "description" in frame:
        frame["description"] = frame["description"].fillna("")
    return frame


def _cast(values: pa.Array, wanted: pa.DataType) -> Any:
    import pandas as pd

    textual = pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
    if wanted == pa.string():
        return pd.Series(pc.cast(values, pa.string()), dtype=pd.ArrowDtype(pa.string()))
    if wanted == TIMESTAMP:
        if textual:
            return pd.to_datetime(values.to_pandas(), utc=True, errors="coerce", format="ISO8601").dt.as_unit(
                "us"
            )
        return pc.cast(values, TIMESTAMP, safe=False).to_pandas()
    if wanted == pa.bool_():
        words = {True: True, False: False, "true": True, "false": False, "1": True, "0": False}
        return pd.Series(values.to_pylist(), dtype=object).map(words)
    if textual:
        return pd.to_numeric(values.to_pandas(), errors="coerce").astype(float)
    return pc.cast(values, pa.float64(), safe=False).to_pandas()


def _table(frame: pd.DataFrame, contract: TableContract) -> pa.Table:
    arrays = []
    for column in contract.columns:
        values = frame[column.name]
        if column.type == pa.int64():
            values = values.astype("int64")
        arrays.append(pa.array(values, column.type, from_pandas=True))
    return pa.Table.from_arrays(arrays, schema=contract.columns)


def _rules(contract: TableContract) -> Any:
    """The rules that a row keeps or breaks on its own, as a pandera schema."""
    import pandera.pandas as pandera

    special = {
        "price": [
            pandera.Check(np.isfinite, error="price is not finite"),
            pandera.Check.ge(0, error="price is negative"),
        ],
        "stock": [pandera.Check.ge(0, error="stock is negative")],
        "position": [
            pandera.Check.ge(1, error="position is below 1"),
            pandera.Check(lambda position: position % 1 == 0, error="position is no whole number"),
        ],
    }
    columns = {}
    for column in contract.columns:
        checks = special.get(column.name, [])
        if column.type == pa.string() and column.name != "description":
            checks = [
                pandera.Check(lambda text: text.str.strip() != "", error=f"{column.name} is empty"),
                *checks,
            ]
        columns[column.name] = pandera.Column(None, checks, nullable=column.name in contract.may_lack)
    across = (
        [pandera.Check(_clicked_before_ordered, error="ordered but not clicked")]
        if contract is IMPRESSIONS
        else []
    )
    return pandera.DataFrameSchema(columns, checks=across)


def _clicked_before_ordered(frame: pd.DataFrame) -> pd.Series[bool]:
    ordered, clicked = frame["ordered"].eq(True), frame["clicked"].eq(True)
    return clicked | ~ordered


def _reasons(
    frame: pd.DataFrame, contract: TableContract, rules: Any, known: dict[str, _Keys]
) -> pd.Series[str]:
    """Why each row is rejected; empty for a good one. Keys of the good ones become known."""
    reasons = _broken_rules(frame, rules)
    for column, table in contract.refers_to.items():
        unknown = ~known[table].contain(_hashes(frame, (column,)))
        reasons = reasons.mask((reasons == "") & unknown, f"{column} is not among the valid {table}")
    hashes = _hashes(frame, contract.key)
    if contract.apart_from:
        shared = known[contract.apart_from].contain(hashes)
        reasons = reasons.mask(
            (reasons == "") & shared, f"{contract.key[0]} is also in {contract.apart_from}"
        )
    keys = known[contract.name]
    good = reasons == ""
    repeated = frame.loc[good, list(contract.key)].duplicated().reindex(frame.index, fill_value=False)
    reasons = reasons.mask(
        good & (repeated | keys.contain(hashes)), f"duplicate {' and '.join(contract.key)}"
    )
    keys.add(hashes[(reasons == "").to_numpy()])
    return reasons


def _broken_rules(frame: pd.DataFrame, rules: Any) -> pd.Series[str]:
    import pandas as pd
    from pandera.errors import SchemaErrors

    reasons = pd.Series("", index=frame.index, dtype=object)
    try:
        with (
            warnings.catch_warnings()
        ):  # pandera joins its failure cases in a way that pandas wants to change
            warnings.simplefilter("ignore", FutureWarning)
            rules.validate(frame, lazy=True)
    except SchemaErrors as errors:
        failures = errors.failure_cases
        texts = failures["check"].where(
            failures["check"] != "not_nullable", failures["column"] + " is missing"
        )
        order = {name: rank for rank, name in enumerate(frame.columns)}
        ranked = pd.DataFrame(
            {"row": failures["index"].astype(int), "rank": failures["column"].map(order), "text": texts}
        )
        ranked.loc[failures["schema_context"] != "Column", "rank"] = len(order)
        first = ranked.sort_values(["row", "rank", "text"]).drop_duplicates("row")
        reasons.loc[first["row"]] = first["text"].to_numpy()
    return reasons


def _hashes(frame: pd.DataFrame, columns: tuple[str, ...]) -> npt.NDArray[np.uint64]:
    import pandas as pd

    hashes = pd.util.hash_pandas_object(frame[list(columns)], index=False)
    return np.asarray(hashes, dtype=np.uint64)
