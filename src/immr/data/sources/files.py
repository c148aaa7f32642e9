"""Files with rows: Parquet in its own types, CSV and JSON lines as text."""

from __future__ import annotations

import csv as python_csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from immr.data.sources import json_rows
from immr.data.sources.csv_rows import BLOCKS, TOO_LONG, CsvRows
from immr.data.sources.locations import Location
from immr.data.sources.table_parts import CHUNK_ROWS
from immr.errors import ContractError
from immr.storage import fingerprint

_KINDS = {
    "Parquet": (".parquet",),
    "CSV": (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".txt", ".txt.gz"),
    "JSON-lines": (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz", ".json", ".json.gz"),
}
SUFFIXES = tuple(suffix for suffixes in _KINDS.values() for suffix in suffixes)
_GZIP = b"\x1f\x8b"
_OTHER_CONTENT = {
    b"PAR1": "a Parquet file: name it .parquet",
    _GZIP: "packed by gzip: add .gz to its name",
    b"PK\x03\x04": "an Excel or ZIP file: export it as CSV",
    b"\x28\xb5\x2f\xfd": "packed by zstd: unpack it",
    b"BZh": "packed by bzip2: unpack it",
    b"\xfd7zXZ": "packed by xz: unpack it",
    b"\xd0\xcf\x11\xe0": "an Excel file: save it as CSV (UTF-8)",
    b"<?xml": "XML: export it as CSV or tab-separated text",
    b"<rss": "XML: export it as CSV or tab-separated text",
    b"<feed": "XML: export it as CSV or tab-separated text",
    **dict.fromkeys(
        (b"<!doctype", b"<html", b"<head", b"<meta", b"<body"),
        "an HTML page: download the export itself, which may need a login",
    ),
    b"<table": "an HTML table, as some systems name their Excel export: save it as CSV",
}
"""By how the content begins, in lower case where it is text."""
_JSON = re.compile(rb'\s*\[?\s*\{\s*"')
_OTHER_FORMATS = {
    (".xml", ".rss", ".atom", ".xml.gz"): "is XML: export it as CSV or tab-separated text",
    (".xlsx", ".xlsm", ".xls", ".ods", ".numbers"): "is a spreadsheet: save it as CSV (UTF-8)",
    (".zip", ".tar", ".tgz", ".tar.gz", ".7z", ".rar", ".zst", ".bz2", ".xz"): "is packed: unpack it",
    (
        ".bson",
        ".sql",
        ".avro",
        ".orc",
        ".feather",
        ".arrow",
        ".pkl",
    ): "is not read: export it as Parquet, CSV or JSON lines",
}
_MAYBE = (".json", ".json.gz", ".txt", ".txt.gz")
_BOMS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}
_SHOWN_CHARS = 300
_CHUNK_BYTES = 2**26
_BROKEN = (pa.ArrowException, OSError, UnicodeError, LookupError, EOFError, python_csv.Error)


def is_table(location: Location) -> bool:
    """By its name. Those that begin with ".", "_" or "~" are skipped: Spark's `_SUCCESS`, Excel's `~$items.csv`."""
    return location.name.lower().endswith(SUFFIXES) and not location.name.startswith((".", "_", "~"))


def may_be_anything(location: Location) -> bool:
    """Whether the file may be a note or a schema: its suffix counts as a table only without tables of other kinds."""
    return location.name.lower().endswith(_MAYBE)


def why_no_table(name: str) -> str:
    """What a file is that is not read, and what to do, as the end of a sentence; empty if its name does not say."""
    found = (what for suffixes, what in _OTHER_FORMATS.items() if name.lower().endswith(suffixes))
    return next(found, "")


def not_a_table(name: str) -> str:
    """A sentence about a file that is not read, and what to do."""
    why = why_no_table(name) or "is neither .parquet nor .csv nor .jsonl: write it as one of them"
    return f"{name} {why}"


@dataclass(frozen=True)
class FilePart:
    """A file of a table.

    Attributes:
        location: the file.
        delimiter: of a CSV file; by default the most frequent of comma, semicolon, tab and bar in its first line.
        encoding: of a CSV or JSON-lines file; by default that of its byte-order mark, else UTF-8.
        flat: columns of a JSON-lines file that must hold single values; others become JSON text.
        read: columns of a JSON-lines file that no object may have twice; None for all.
        partitions: columns with one value in all rows, from the names of folders; those of the file go first.
    """

    location: Location
    delimiter: str = ""
    encoding: str = ""
    flat: frozenset[str] = frozenset()
    read: frozenset[str] | None = None
    partitions: tuple[tuple[str, str | None], ...] = ()

    @property
    def place(self) -> str:
        """See the port."""
        return self.location.uri

    @property
    def kind(self) -> str:
        """Parquet, CSV or JSON-lines."""
        name = self.location.name.lower()
        return next((kind for kind, suffixes in _KINDS.items() if name.endswith(suffixes)), "JSON-lines")

    def columns(self) -> list[str]:
        """See the port; of JSON lines those in the first line."""
        own = self._own_columns()
        return [*own, *(name for name, _ in self.partitions if name not in own)]

    def _own_columns(self) -> list[str]:
        try:
            if self.kind == "Parquet":
                with self._seekable() as file:
                    return list(pq.read_schema(file).names)
            if self.kind == "CSV":
                return self._csv.names
            with self._text() as file:
                return json_rows.first_columns(file, self.place)
        except _BROKEN as error:
            raise self._unreadable(error) from error

    def batches(
        self, rows: int = CHUNK_ROWS, columns: Sequence[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """See the port."""
        own = (
            [name for name in columns if name in self._own_columns()]
            if columns and self.partitions
            else columns
        )
        try:
            for batch in self._own_batches(rows, own):
                yield self._with_partitions(batch, columns)
        except _BROKEN as error:
            raise self._unreadable(error) from error

    def _own_batches(self, rows: int, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
        if self.kind == "Parquet":
            with self._seekable() as opened, pq.ParquetFile(opened, page_checksum_verification=True) as file:
                for groups, fit in _in_memory(file.metadata, rows):
                    yield from file.iter_batches(fit, groups, columns)
            return
        for batch in self._csv.batches() if self.kind == "CSV" else self._json_lines(rows):
            chosen = batch.select(list(columns)) if columns is not None else batch
            yield from (chosen.slice(start, rows) for start in range(0, len(chosen), rows))

    def _json_lines(self, rows: int) -> Iterator[pa.RecordBatch]:
        with self._text() as file:
            yield from json_rows.batches(file, rows, self.place, self.flat, self.read)

    def _with_partitions(self, batch: pa.RecordBatch, columns: Sequence[str] | None) -> pa.RecordBatch:
        for name, value in self.partitions:
            if name not in batch.schema.names and (columns is None or name in columns):
                batch = batch.append_column(name, pa.array([value] * len(batch), pa.string()))
        return batch

    def rows(self) -> int | None:
        """See the port. Of text it is the size over the length of the first lines."""
        try:
            if self.kind == "Parquet":
                with self._seekable() as file:
                    return int(pq.read_metadata(file).num_rows)
            size, lines = self.location.size(), self._start.count(b"\n")
        except _BROKEN as error:
            raise self._unreadable(error) from error
        if self._is_packed or size is None:
            return None
        return round(size / len(self._start) * lines) if self._start else 0

    def state(self) -> str:
        """See the port. A local file goes by its content."""
        local = self.location.local
        found = fingerprint.of_file(local) if local else self.location.state()
        return f"{found} {self.partitions}" if self.partitions else found

    def stamp(self) -> str:
        """See the port: path, size and time of the last change."""
        return f"{self.location.uri} {self.location.listed or self.location.state()}"

    def _unreadable(self, error: Exception) -> ContractError:
        """What is wrong, and what helps in the cases that are usual."""
        text = str(error)
        try:
            other = "" if self.kind == "Parquet" else self._other_content()
        except _BROKEN:  # the storage fails again
            other = ""
        if other:
            return ContractError(f"{self.place} is {other}")
        if "Empty CSV file" in text:
            return ContractError(f"{self.place} is empty, or has only a header: it needs at least one row")
        if TOO_LONG in text:
            return ContractError(
                f"{self.place} has a row of over {BLOCKS[-1]:,} bytes: close its quotes, shorten it, or write Parquet"
            )
        if "CSV parse" in text:  # other lines with a wrong number of columns are rejected rows
            remedy = 'close it, or write "" for a quote within a value'
            return ContractError(f"{self.place} has a quote that is not closed ({_brief(text)}): {remedy}")
        if isinstance(error, UnicodeError) or "UTF8" in text:
            remedy = 'name it in a mapping, such as encoding = "cp1252" (`immr data check` proposes one)'
            return ContractError(f"{self.place} has another encoding than UTF-8 ({_brief(text)}): {remedy}")
        return ContractError(
            f"{self.place} is not a readable {self.kind} file ({_brief(text)}): write it again"
        )

    def _check_content(self) -> None:
        if other := self._other_content():
            raise ContractError(f"{self.place} is {other}")

    def _other_content(self) -> str:
        """What the file is instead of text; empty if it may be text."""
        if self._is_packed:
            with self.location.filesystem.open_input_stream(self.location.path, compression=None) as file:
                if bytes(file.read(2)) not in (_GZIP, b""):
                    return "not packed by gzip: take .gz off its name"
        start = self._start.removeprefix(b"\xef\xbb\xbf").lstrip()
        if self._is_packed and start.startswith(_GZIP):
            return "packed by gzip twice: unpack it once"
        if self.kind == "CSV" and _JSON.match(start):
            return "JSON: name it .jsonl, with one object per line"
        lower = start[:20].lower()
        return next(
            (w for mark, w in _OTHER_CONTENT.items() if start.startswith(mark) or lower.startswith(mark)), ""
        )

    @property
    def _is_packed(self) -> bool:
        return self.location.name.lower().endswith(".gz")

    def _seekable(self) -> pa.NativeFile:
        return self.location.filesystem.open_input_file(self.location.path)

    def _stream(self) -> pa.NativeFile:
        compression = "gzip" if self._is_packed else None  # Arrow does not recognize .GZ
        return self.location.filesystem.open_input_stream(self.location.path, compression=compression)

    def _text(self) -> io.TextIOWrapper:
        self._check_content()
        raw: Any = self._stream() if self._is_packed else self._seekable()
        return io.TextIOWrapper(raw, encoding="utf-8-sig" if self._encoding == "utf-8" else self._encoding)

    def start(self) -> bytes:
        """The first 64 KB of its content, unpacked.

        Raises:
            ContractError: The file cannot be read.
        """
        try:
            return self._start
        except _BROKEN as error:
            raise self._unreadable(error) from error

    @cached_property
    def _start(self) -> bytes:
        with self._stream() as file:
            return bytes(file.read(65_536))

    @cached_property
    def _encoding(self) -> str:
        known = (name for mark, name in _BOMS.items() if self._start.startswith(mark))
        return self.encoding or next(known, "utf-8")

    @cached_property
    def _csv(self) -> CsvRows:
        self._check_content()
        rows = CsvRows(self._stream, self._start, self.place, self._encoding, self.delimiter)
        if "\0" in rows.first_line:
            raise ContractError(
                f"{self.place} has zero bytes, as UTF-16 and UTF-32 do: write it as UTF-8, or name its encoding in "
                "a mapping"
            )
        return rows


def _in_memory(metadata: pq.FileMetaData, rows: int) -> Iterator[tuple[list[int], int]]:
    """Row groups that Arrow may read ahead, which it does as a whole, and how many of their rows fit into a batch.

    Fewer than `rows` fit if they have pictures in them. Columns that nobody reads count, too.
    """
    groups, held, held_bytes = list[int](), 0, 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        groups.append(number)
        held, held_bytes = held + group.num_rows, held_bytes + group.total_byte_size
        if held >= rows or held_bytes >= _CHUNK_BYTES or number == metadata.num_row_groups - 1:
            yield groups, max(1, min(rows, held * _CHUNK_BYTES // max(1, held_bytes)))
            groups, held, held_bytes = [], 0, 0


def _brief(text: str) -> str:
    """A library's message, which may quote a whole row."""
    shown = text if text.isprintable() else repr(text)
    return shown if len(shown) <= _SHOWN_CHARS else f"{shown[:_SHOWN_CHARS]}…"
