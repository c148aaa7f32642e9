"""The rows of a CSV file as text: delimiter, header and quotes as spreadsheets, Spark and databases write them."""

from __future__ import annotations

import codecs
import csv as python_csv
import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv

from immr.data.sources.table_parts import MALFORMED
from immr.errors import ContractError

BLOCKS = (2**20, 2**24, 2**26)
"""Bytes that Arrow parses at a time. A row must fit, so the next is taken for a file with a longer one."""
TOO_LONG = "straddling object"
"""In Arrow's message about a row that does not fit."""
_MOST_LINES = 10_000  # of one value: an open quote at the end of a row takes along those after it
_END = "(IMMR: end of file)"  # a line added to the file; in a value it shows that the last quote is open
_SHOWN_CHARS = 80
_DELIMITERS = ",;\t|"
_QUOTED = re.compile(r'"[^"]*"')
_AS_TEXT = r'^="((?:[^"]|"")*)"$'  # a formula that keeps Excel from reading 0017 as 17
_ESCAPES = re.compile(rb'(?<!\\)(\\+)"')
_INVISIBLE = " \t\ufeff\u200b\u00a0"


@dataclass(frozen=True)
class CsvRows:
    """A CSV file.

    Attributes:
        stream: opens its content, unpacked.
        start: the first bytes of it.
        place: of the file, for messages.
        encoding: a name that Python knows.
        delimiter: empty: the one that a line `sep=;` names, else the most frequent in the first line.
    """

    stream: Callable[[], pa.NativeFile]
    start: bytes
    place: str
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
            ContractError: a quote is not closed, so that a value takes in the rows after it.
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
        unquoted = _QUOTED.sub("", self.first_line)  # a name may have commas: "Size (L, B, H)"
        return self.delimiter or self._declared or max(_DELIMITERS, key=unquoted.count)

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
        """The content with quotes within quotes written twice, where the file has a backslash before them.

        Reading it raises UnicodeDecodeError where it should be UTF-8 and is not.
        """
        ends_a_value = re.escape(f'{self._delimiter}"\r\n')
        if self.encoding.startswith("utf-16") or not re.search(rf'\\"[^{ends_a_value}]', self._text):
            return self._checked()
        return pa.TransformInputStream(self._checked(), _QuotesTwice())

    def _checked(self) -> pa.NativeFile:
        is_utf8 = self.encoding.startswith("utf-8")
        return pa.TransformInputStream(self.stream(), _Utf8()) if is_utf8 else self.stream()

    def _opened_with_end(self) -> pa.NativeFile:
        if b"\n".decode(self.encoding, errors="ignore") != "\n":  # UTF-16
            return self._opened()
        end = f"\n{_END}{self._delimiter * len(self._header)}\n"  # a column too many, so that it is skipped
        return pa.TransformInputStream(self._opened(), _Ended(end.encode()))

    def _options(self, malformed: deque[str], block_size: int) -> dict[str, Any]:
        """How the file is parsed; lines with too many or too few columns are added to `malformed`."""

        def skip(line: Any) -> str:
            if line.text.rstrip(self._delimiter) == _END:
                return "skip"
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
        malformed = deque[str]()
        options = self._options(malformed, block_size)
        with csv.open_csv(self._opened_with_end(), convert_options=as_text, **options) as reader:
            for batch in reader:
                yield _without_formulas(self._closed(batch.rename_columns(self.names))), True
                yield self._closed(self._malformed_rows(malformed)), False
        yield self._closed(self._malformed_rows(malformed)), False

    def _closed(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The batch itself, after a check for an open quote, which makes a value of the rows after it."""
        if len(batch) and _END in str(batch.column(-1)[-1]):
            raise self._open_quote(
                batch, len(batch) - 1, batch.schema.names[-1], "goes to the end of the file"
            )
        for name, values in zip(batch.schema.names, batch.columns, strict=True):
            if (pc.max(pc.binary_length(values)).as_py() or 0) <= _MOST_LINES:
                continue
            breaks = pc.max_element_wise(*(pc.count_substring(values, sign) for sign in "\r\n"))
            if (most := pc.max(breaks).as_py()) <= _MOST_LINES:
                continue
            raise self._open_quote(batch, pc.index(breaks, most).as_py(), name, f"has {most:,} line breaks")
        return batch

    def _open_quote(self, batch: pa.RecordBatch, row: int, name: str, what: str) -> ContractError:
        first = next(iter(str(batch.column(0)[row]).splitlines()), "")[:_SHOWN_CHARS]
        return ContractError(
            f"{self.place}: a quote is not closed near the row whose {self.names[0]} is {first!r}, so its {name} "
            f'{what}: close it, or write "" for a quote within a value'
        )

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


def _without_formulas(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Reads `="0017"` as 0017, and `="5"" pipe"` as 5" pipe; formulas that compute something stay."""
    for number, values in enumerate(batch.columns):
        if pc.any(pc.starts_with(values, '="')).as_py():
            texts = pc.replace_substring(pc.replace_substring_regex(values, _AS_TEXT, r"\1"), '""', '"')
            texts = pc.if_else(pc.match_substring_regex(values, _AS_TEXT), texts, values)
            batch = batch.set_column(number, batch.schema.field(number), texts)
    return batch


class _QuotesTwice:
    """Replaces `\\"` by `""` and `\\\\"` by `\\"`, as Spark and MySQL mean it; other backslashes stay."""

    def __init__(self) -> None:
        self._held = b""

    def __call__(self, content: Any) -> bytes:
        """The next piece; backslashes at its end wait for the one after it. The last is empty."""
        piece = self._held + bytes(content)
        done = piece.rstrip(b"\\") if content else piece
        self._held = piece[len(done) :]
        return _ESCAPES.sub(_as_doubled, done)


def _as_doubled(escape: re.Match[bytes]) -> bytes:
    pairs, is_odd = divmod(len(escape[1]), 2)
    return b"\\" * pairs + (b'""' if is_odd else b'"')


class _Utf8:
    """Refuses other bytes before Arrow's parser meets them: its handler of malformed lines cannot take them."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def __call__(self, content: Any) -> bytes:
        """The next piece as it is; the last is empty.

        Raises:
            UnicodeDecodeError: It is not UTF-8.
        """
        self._decoder.decode(content, final=not content)
        return bytes(content)


class _Ended:
    """Adds something at the end."""

    def __init__(self, end: bytes) -> None:
        self._left = end

    def __call__(self, content: Any) -> bytes:
        """The next piece; the last is empty."""
        if content:
            return bytes(content)
        end, self._left = self._left, b""
        return end
