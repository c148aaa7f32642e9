"""Files with rows: Parquet in its own types, CSV and JSON lines as text."""

from __future__ import annotations

import csv as python_csv
import io
import json
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from immr.data.sources.locations import Location
from immr.data.sources.parts import CHUNK_ROWS, MALFORMED
from immr.errors import ContractError
from immr.storage import fingerprint

SUFFIXES = (".parquet", ".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".ndjson")
_DELIMITERS = ",;\t|"
_BOMS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}
_BROKEN = (pa.ArrowException, OSError, UnicodeDecodeError, LookupError, EOFError, python_csv.Error)


def is_table(location: Location) -> bool:
    """By its name. Names that begin with "." or "_" are skipped, as Spark's `_SUCCESS`."""
    return location.name.endswith(SUFFIXES) and not location.name.startswith((".", "_"))


@dataclass(frozen=True)
class FilePart:
    """A file of a table.

    Attributes:
        location: the file.
        delimiter: of a CSV file; by default the most frequent of comma, semicolon, tab and bar in its first line.
        encoding: of a CSV file; by default that of its byte-order mark, else UTF-8.
        flat: columns of a JSON-lines file that must hold single values; others become JSON text.
    """

    location: Location
    delimiter: str = ""
    encoding: str = ""
    flat: frozenset[str] = frozenset()

    @property
    def place(self) -> str:
        """See the port."""
        return self.location.uri

    @property
    def kind(self) -> str:
        """Parquet, CSV or JSON-lines."""
        name = self.location.name
        return "CSV" if ".csv" in name else "Parquet" if name.endswith(".parquet") else "JSON-lines"

    def columns(self) -> list[str]:
        """See the port; of JSON lines those in the first line."""
        try:
            if self.kind == "Parquet":
                with self._seekable() as file:
                    return list(pq.read_schema(file).names)
            if self.kind == "CSV":
                return self._header
            with self._text() as file:
                return list(json.loads(file.readline() or "{}"))
        except (*_BROKEN, ValueError) as error:
            raise self._unreadable(error) from error

    def batches(
        self, rows: int = CHUNK_ROWS, columns: Sequence[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """See the port."""
        try:
            if self.kind == "Parquet":
                with self._seekable() as opened, pq.ParquetFile(opened) as file:
                    yield from file.iter_batches(rows, columns=columns)
                return
            for batch in self._csv_rows() if self.kind == "CSV" else self._json_lines(rows):
                chosen = batch.select(list(columns)) if columns else batch
                yield from (chosen.slice(start, rows) for start in range(0, len(chosen), rows))
        except _BROKEN as error:
            raise self._unreadable(error) from error

    def rows(self) -> int | None:
        """See the port. Of text it is the size over the length of the first lines."""
        try:
            if self.kind == "Parquet":
                with self._seekable() as file:
                    return int(pq.read_metadata(file).num_rows)
        except _BROKEN as error:
            raise self._unreadable(error) from error
        size, lines = self.location.size(), self._start.count(b"\n")
        if self.location.name.endswith(".gz") or size is None:
            return None
        return round(size / len(self._start) * lines) if self._start else 0

    def state(self) -> str:
        """See the port. A local file goes by its content."""
        local = self.location.local
        return fingerprint.of_file(local) if local else self.location.state()

    def stamp(self) -> str:
        """See the port: path, size and time of the last change."""
        return f"{self.location.uri} {self.location.listed or self.location.state()}"

    def _unreadable(self, error: Exception) -> ContractError:
        return ContractError(f"{self.place} is not a readable {self.kind} file ({error}): write it again")

    def _seekable(self) -> pa.NativeFile:
        return self.location.filesystem.open_input_file(self.location.path)

    def _stream(self) -> pa.NativeFile:
        return self.location.filesystem.open_input_stream(self.location.path)

    def _text(self) -> io.TextIOWrapper:
        raw: Any = self._stream() if self.location.name.endswith(".gz") else self._seekable()
        return io.TextIOWrapper(raw, encoding="utf-8")

    def start(self) -> bytes:
        """The first 64 KB of its content, unpacked."""
        with self._stream() as file:
            return bytes(file.read(65_536))

    @cached_property
    def _start(self) -> bytes:
        return self.start()

    @cached_property
    def _encoding(self) -> str:
        known = (name for mark, name in _BOMS.items() if self._start.startswith(mark))
        return self.encoding or next(known, "utf-8")

    @cached_property
    def _delimiter(self) -> str:
        first = self._start.decode(self._encoding, errors="ignore").partition("\n")[0]
        return self.delimiter or max(_DELIMITERS, key=first.count)

    @cached_property
    def _header(self) -> list[str]:
        with csv.open_csv(self._stream(), **self._options(deque())) as file:
            return list(file.schema.names)

    def _options(self, malformed: deque[str]) -> dict[str, Any]:
        """How the file is parsed; lines with too many or too few columns are added to `malformed`."""

        def skip(line: Any) -> str:
            if line.text.count('"') % 2:  # an open quote takes the lines after it along
                return "error"
            malformed.append(line.text)
            return "skip"

        # texts of shops have line breaks between their quotes
        parsed = csv.ParseOptions(
            delimiter=self._delimiter, newlines_in_values=True, invalid_row_handler=skip
        )
        encoding = "utf-8" if self._encoding == "utf-8-sig" else self._encoding  # Arrow skips the mark itself
        return {"parse_options": parsed, "read_options": csv.ReadOptions(encoding=encoding)}

    def _csv_rows(self) -> Iterator[pa.RecordBatch]:
        """All columns as text: a type guessed from the first rows fails at a later one."""
        as_text = csv.ConvertOptions(column_types=dict.fromkeys(self._header, pa.string()))
        if self._encoding == "utf-8":
            as_text.check_utf8 = True
        malformed = deque[str]()
        with csv.open_csv(self._stream(), convert_options=as_text, **self._options(malformed)) as reader:
            for batch in reader:
                yield batch
                yield self._malformed_rows(malformed)
        yield self._malformed_rows(malformed)

    def _malformed_rows(self, malformed: deque[str]) -> pa.RecordBatch:
        """Takes out the lines so far. Columns before the fault are right, which is often enough to know the id."""
        lines = [malformed.popleft() for _ in range(len(malformed))]  # Arrow reads ahead in another thread
        names = self._header
        split = [next(python_csv.reader([line], delimiter=self._delimiter), []) for line in lines]
        columns = {
            name: [row[at] if at < len(row) else None for row in split] for at, name in enumerate(names)
        }
        return pa.RecordBatch.from_pydict(
            {name: pa.array(values, pa.string()) for name, values in [*columns.items(), (MALFORMED, lines)]}
        )

    def _json_lines(self, rows: int) -> Iterator[pa.RecordBatch]:
        number = 0
        with self._text() as file:
            while lines := list(islice(file, rows)):
                places = ((line, f"line {number + at} of {self.place}") for at, line in enumerate(lines, 1))
                records = [_record(line, place, self.flat) for line, place in places if line.strip()]
                names = list(dict.fromkeys(name for record in records for name in record))
                yield pa.RecordBatch.from_pydict(
                    {name: pa.array([r.get(name) for r in records], pa.string()) for name in names}
                )
                number += len(lines)


def _record(line: str, place: str, flat: frozenset[str]) -> dict[str, str | None]:
    """One object with its values as they are written: no digit of an id or a price is lost."""
    try:
        values = json.loads(line, parse_int=str, parse_float=str, parse_constant=str)
    except ValueError as error:
        raise ContractError(f"{place} is not JSON ({error}): write one object per line") from error
    if not isinstance(values, dict):
        raise ContractError(f"{place} is not an object: write one object per line")
    for name, value in values.items():
        if isinstance(value, list | dict) and name in flat:
            raise ContractError(
                f"{place}: {name} is a list or an object: write a single value, or map it (--map)"
            )
    texts = (
        None if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for value in values.values()
    )
    return dict(zip(values, texts, strict=True))
