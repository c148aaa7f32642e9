"""The rows of a CSV file as text: delimiter, header and quotes as spreadsheets, Spark and databases write them."""

from __future__ import annotations

import csv as python_csv
import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.csv as csv

from immr.data.sources.parts import MALFORMED

BLOCKS = (2**20, 2**24, 2**28)
"""Bytes that Arrow parses at a time. A row must fit, so the next is taken for a file with a longer one."""
TOO_LONG = "straddling object"
"""In Arrow's message about a row that does not fit."""
_DELIMITERS = ",;\t|"
_INVISIBLE = " \t\ufeff\u200b\u00a0"


@dataclass(frozen=True)
class CsvRows:
    """A CSV file.

    Attributes:
        stream: opens its content, unpacked.
        start: the first bytes of it.
        encoding: a name that Python knows.
        delimiter: empty: the one that a line `sep=;` names, else the most frequent in the first line.
    """

    stream: Callable[[], pa.NativeFile]
    start: bytes
    encoding: str
    delimiter: str = ""

    @cached_property
    def first_line(self) -> str:
        """The header, or Excel's line `sep=;` before it."""
        return self._text.partition("\n")[0]

    @cached_property
    def names(self) -> list[str]:
        """The header without spaces around its names; a column without a name is named by its place."""
        stripped = [name.strip(_INVISIBLE) for name in self._header]
        return [name or f"column {number}" for number, name in enumerate(stripped, 1)]

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All rows as text: a type guessed from the first ones fails at a later one.

        Lines with too many or too few columns are in batches of their own, with a column `malformed_line`.

        Raises:
            pa.ArrowException: the file cannot be parsed.
        """
        given = {True: 0, False: 0}  # rows from before one that did not fit a block
        for block_size in BLOCKS:
            known = dict(given)
            try:
                for batch, is_good in self._parsed(block_size):
                    again = min(known[is_good], len(batch))
                    known[is_good] -= again
                    given[is_good] += len(batch) - again
                    yield batch.slice(again)
                return
            except pa.ArrowInvalid as error:
                if TOO_LONG not in str(error) or block_size == BLOCKS[-1]:
                    raise

    @cached_property
    def _text(self) -> str:
        return self.start.decode(self.encoding, errors="ignore")

    @cached_property
    def _declared(self) -> str:
        declared = self.first_line.strip("\r").strip('"')
        return declared[4:] if re.fullmatch(r"(?i)sep=.", declared) else ""

    @cached_property
    def _delimiter(self) -> str:
        return self.delimiter or self._declared or max(_DELIMITERS, key=self.first_line.count)

    @cached_property
    def _header(self) -> list[str]:
        for block_size in BLOCKS:  # Arrow parses the first block, too
            try:
                with csv.open_csv(self._opened(), **self._options(deque(), block_size)) as file:
                    return list(file.schema.names)
            except pa.ArrowInvalid as error:
                if TOO_LONG not in str(error) or block_size == BLOCKS[-1]:
                    raise
        raise AssertionError("the last size raises")

    def _opened(self) -> pa.NativeFile:
        """The content with quotes within quotes written twice, where the file has a backslash before them."""
        ends_a_value = re.escape(f'{self._delimiter}"\r\n')
        if self.encoding.startswith("utf-16") or not re.search(rf'\\"[^{ends_a_value}]', self._text):
            return self.stream()
        return pa.TransformInputStream(self.stream(), _QuotesTwice())

    def _options(self, malformed: deque[str], block_size: int) -> dict[str, Any]:
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
        encoding = "utf-8" if self.encoding == "utf-8-sig" else self.encoding  # Arrow skips the mark itself
        read = csv.ReadOptions(encoding=encoding, block_size=block_size, skip_rows=1 if self._declared else 0)
        return {"parse_options": parsed, "read_options": read}

    def _parsed(self, block_size: int) -> Iterator[tuple[pa.RecordBatch, bool]]:
        """Rows, and whether they can be split into columns."""
        as_text = csv.ConvertOptions(column_types=dict.fromkeys(self._header, pa.string()))
        if self.encoding == "utf-8":
            as_text.check_utf8 = True
        malformed = deque[str]()
        options = self._options(malformed, block_size)
        with csv.open_csv(self._opened(), convert_options=as_text, **options) as reader:
            for batch in reader:
                yield batch.rename_columns(self.names), True
                yield self._malformed_rows(malformed), False
        yield self._malformed_rows(malformed), False

    def _malformed_rows(self, malformed: deque[str]) -> pa.RecordBatch:
        """Takes out the lines so far. Columns before the fault are right, which is often enough to know the id."""
        lines = [malformed.popleft() for _ in range(len(malformed))]  # Arrow reads ahead in another thread
        split = [next(python_csv.reader([line], delimiter=self._delimiter), []) for line in lines]
        columns = {
            name: [row[at] if at < len(row) else None for row in split] for at, name in enumerate(self.names)
        }
        return pa.RecordBatch.from_pydict(
            {name: pa.array(values, pa.string()) for name, values in [*columns.items(), (MALFORMED, lines)]}
        )


class _QuotesTwice:
    """Replaces `\\"` by `""`, as Spark and MySQL mean it; other backslashes stay."""

    def __init__(self) -> None:
        self._held = b""

    def __call__(self, content: Any) -> bytes:
        """The next piece; a backslash at its end waits for the one after it."""
        piece = self._held + bytes(content)
        self._held = b"\\" if piece.endswith(b"\\") else b""
        return piece[: len(piece) - len(self._held)].replace(b'\\"', b'""')
