"""The rows of a JSON-lines file as text."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from io import TextIOBase
from typing import Any

import pyarrow as pa

from immr.errors import ContractError

_ONE_PER_LINE = "write one object per line, for example with `jq -c '.[]'`"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LONGEST_LINE = 2**26
"""Characters: a document without line breaks is not read into memory to the end."""
_CHUNK_CHARS = 2**26  # of lines in memory at a time; their objects may have pictures in them
_SHOWN_CHARS = 200  # of the library's message, which may quote the line


def first_columns(file: TextIOBase, place: str) -> list[str]:
    """The columns in the first line that is not blank; none if there is no such line.

    Raises:
        ContractError: The line is not an object.
    """
    first = next((line for line in _lines(file, place) if line.strip()), "{}")
    return list(record(first, f"the first line of {place}", frozenset(), frozenset()))


def batches(
    file: TextIOBase, rows: int, place: str, flat: frozenset[str], read: frozenset[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """All rows, in batches.

    Args:
        file: the file's text.
        rows: the largest size of a batch.
        place: of the file, for messages.
        flat: columns that must hold single values; others become JSON text.
        read: columns that no object may have twice; None for all. Of others the last value stays.

    Raises:
        ContractError: a line is not one object, or has a list or an object in one of the flat columns, or one of the
            columns to read twice.
    """
    number = 0
    for lines in _chunks(_lines(file, place), rows):
        places = ((line, f"line {number + at} of {place}") for at, line in enumerate(lines, 1))
        records = [record(line, where, flat, read) for line, where in places if line.strip()]
        names = list(dict.fromkeys(name for each in records for name in each))
        yield pa.RecordBatch.from_pydict(
            {name: _texts([each.get(name) for each in records]) for name in names}
        )
        number += len(lines)


def _lines(file: TextIOBase, place: str) -> Iterator[str]:
    for number in itertools.count(1):
        line = file.readline(LONGEST_LINE + 1)
        if not line:
            return
        if len(line) > LONGEST_LINE:
            raise ContractError(
                f"line {number} of {place} has no end within {LONGEST_LINE:,} characters: {_ONE_PER_LINE}"
            )
        yield line


def _chunks(lines: Iterator[str], rows: int) -> Iterator[list[str]]:
    """As many lines at a time, or fewer long ones."""
    chunk, chars = list[str](), 0
    for line in lines:
        chunk.append(line)
        chars += len(line)
        if len(chunk) == rows or chars > _CHUNK_CHARS:
            yield chunk
            chunk, chars = [], 0
    if chunk:
        yield chunk


def record(line: str, place: str, flat: frozenset[str], read: frozenset[str] | None) -> dict[str, str | None]:
    """One object with its values as they are written: no digit of an id or a price is lost.

    Raises:
        ContractError: see `batches`.
    """
    if line.lstrip().startswith("[") and line.strip() != "[":  # parsing it would take many times its size
        raise ContractError(f"{place} is an array: {_ONE_PER_LINE}")
    try:
        values = json.loads(
            line, object_pairs_hook=_members, parse_int=str, parse_float=str, parse_constant=str
        )
    except (ValueError, RecursionError) as error:
        reason = str(error)[:_SHOWN_CHARS]
        if line.strip() in ("[", "{"):
            raise ContractError(f"{place} opens a document over several lines: {_ONE_PER_LINE}") from error
        raise ContractError(f"{place} is not JSON ({reason}): write one object per line") from error
    if not isinstance(values, dict):
        raise ContractError(f"{place} is not an object: write one object per line")
    repeated = values.keys_twice if isinstance(values, _Repeated) else ()
    if twice := [name for name in repeated if read is None or name in read]:
        raise ContractError(f"{place} has {twice[0]!r} more than once: keep one of each")
    for name, value in values.items():
        if isinstance(value, list | dict) and name in flat:
            raise ContractError(
                f"{place}: {name} is a list or an object: write a single value, take one from it in a mapping, which "
                '`immr data check` proposes, or declare an attribute as "keywords"'
            )
    return {name.encode("utf-8", "replace").decode(): _text(value) for name, value in values.items()}


class _Repeated(dict[str, Any]):
    """An object that has keys more than once."""

    keys_twice: Sequence[str] = ()


def _plain(member: dict[str, Any]) -> Any:
    """The value of MongoDB's extended JSON: `{"$oid": "65a1"}`, `{"$numberDecimal": "19.99"}`, `{"$date": …}`."""
    [(name, value)] = member.items()
    if name in _EXTENDED and isinstance(value, str):
        return _EXTENDED[name](value)
    return member


def _moment(text: str) -> str:
    """ISO 8601 as it is, and milliseconds since 1970, which canonical extended JSON counts."""
    try:
        return (_EPOCH + timedelta(milliseconds=int(text))).isoformat()
    except (ValueError, OverflowError):
        return text


_EXTENDED: Mapping[str, Callable[[str], str]] = {
    **dict.fromkeys(("$oid", "$uuid", "$numberInt", "$numberLong", "$numberDouble", "$numberDecimal"), str),
    "$date": _moment,
}


def _members(pairs: list[tuple[str, Any]]) -> Any:
    found = dict(pairs)
    if len(found) == len(pairs):
        return _plain(found) if len(found) == 1 else found
    repeated = _Repeated(found)
    counts = Counter(name for name, _ in pairs)
    repeated.keys_twice = [name for name, count in counts.items() if count > 1]
    return repeated


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _texts(values: list[str | None]) -> pa.Array:
    """Half characters, which JSON can express, stay bytes that are not UTF-8, so that their row is rejected."""
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:
        contents = [None if value is None else value.encode("utf-8", "surrogatepass") for value in values]
        return pa.array(contents, pa.binary()).cast(pa.string(), safe=False)
