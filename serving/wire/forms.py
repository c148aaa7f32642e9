"""A search's body as it came: its fields, its photo without a copy, and what of it goes on to a variant."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from python_multipart.multipart import parse_options_header

from serving.wire.application import JSON, media_type
from serving.wire.problems import ProblemError

PHOTO = "image"
_MAX_PARTS = 32
_MAX_HEAD_BYTES = 4096  # of one part
_MULTIPART = "multipart/form-data"
_KINDS = "send the photo as multipart/form-data with a file field 'image', or {\"item_id\": …} as JSON"
_FORM = "the form cannot be read: send multipart/form-data as every HTTP client does"
_JSON = "the body cannot be read: send a valid form, or valid UTF-8 JSON"


@dataclass(frozen=True, slots=True)
class SearchForm:
    """The body of `POST /v1/search`, read alike by gateway and Bento; `search_request` validates it."""

    body: bytes
    headers: dict[str, str]
    """Those that go on with the body: what it is, and the caller's key where variants want one."""
    values: Any
    """Of a form its fields by name, texts or files; of JSON whatever it holds."""
    photo: memoryview | None

    @property
    def asks_for_page(self) -> bool:
        """Whether it goes on with an answer of one version."""
        return isinstance(self.values, Mapping) and bool(self.values.get("page"))

    @classmethod
    def read(cls, body: bytes, headers: Mapping[str, str]) -> SearchForm:
        """Read a multipart body (RFC 7578) or JSON.

        Raises:
            ProblemError: 415 for another kind of body, 400 where it cannot be read, 422 where a field is
                there twice.
        """
        content_type = headers.get("content-type", "")
        goes_on = passed_on(headers, "content-type", "authorization")
        if (kind := media_type(content_type)) == JSON:
            return cls(body, goes_on, _of_json(body), None)
        if kind != _MULTIPART:
            raise ProblemError(415, f"the content type is {content_type[:100]!r}: {_KINDS}")
        parts = _parts(body, _boundary(content_type))
        fields = {name: _text(name, part) for name, part in parts.items() if name != PHOTO}
        return cls(body, goes_on, fields, parts[PHOTO].content if PHOTO in parts else None)


@dataclass(frozen=True, slots=True)
class _Part:
    content: memoryview
    is_file: bool


def passed_on(headers: Mapping[str, str], *names: str) -> dict[str, str]:
    """Those of the headers that are there."""
    return {name: headers[name] for name in names if name in headers}


def _of_json(body: bytes) -> Any:
    try:
        return json.loads(body, object_pairs_hook=_each_once)
    except (ValueError, RecursionError) as error:
        raise ProblemError(400, _JSON) from error


def _each_once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise _twice(name)
        found[name] = value
    return found


def _boundary(content_type: str) -> bytes:
    try:
        _, options = parse_options_header(content_type)
    except UnicodeEncodeError:
        options = {}
    boundary = options.get(b"boundary", b"")
    if not boundary or not boundary.isascii():
        raise ProblemError(400, f"{_FORM}; it names no boundary")
    return boundary


def _parts(body: bytes, boundary: bytes) -> dict[str, _Part]:
    view = memoryview(body)
    lines = list(_delimiters(body, boundary))
    if not lines or not lines[-1].is_last:
        raise ProblemError(400, f"{_FORM}; its end is missing, as if it was cut off")
    parts: dict[str, _Part] = {}
    for line, following in pairwise(lines):
        head = body.find(b"\r\n\r\n", line.end, min(following.start, line.end + _MAX_HEAD_BYTES))
        name, is_file = _named(body[line.end : max(head, line.end)])
        if name in parts:
            raise _twice(name)
        parts[name] = _Part(view[head + 4 : following.start - 2], is_file)
    return parts


@dataclass(frozen=True, slots=True)
class _Delimiter:
    start: int
    end: int
    is_last: bool


def _delimiters(body: bytes, boundary: bytes) -> Iterator[_Delimiter]:
    """The lines between parts, from their dashes on; searched with `find`, because photos are long."""
    line = re.compile(b"--" + re.escape(boundary) + rb"(--)?[ \t]*(?:\r\n|\Z)")
    mark = b"\r\n--" + boundary
    at = 0 if body.startswith(mark[2:]) else body.find(mark) + 2
    parts = 0
    while at != 1:  # nowhere
        if found := line.match(body, at):
            yield _Delimiter(at, found.end(), found[1] is not None)
            parts += 1
            if found[1] is not None:
                return
            if parts > _MAX_PARTS:
                raise ProblemError(400, f"{_FORM}; it has more than {_MAX_PARTS} parts")
        at = body.find(mark, at) + 2


def _named(head: bytes) -> tuple[str, bool]:
    """A part's name, and whether it is a file."""
    for line in head.split(b"\r\n"):
        key, _, value = line.partition(b":")
        if key.strip().lower() == b"content-disposition":
            _, options = parse_options_header(value)
            if name := options.get(b"name"):
                return _utf8(name, "the name of a field"), b"filename" in options
    raise ProblemError(400, f"{_FORM}; a part has no name")


def _text(name: str, part: _Part) -> str | memoryview:
    return part.content if part.is_file else _utf8(bytes(part.content), f"the field {name[:100]!r}")


def _utf8(content: bytes, what: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ProblemError(400, f"{what} is no valid UTF-8: send it as UTF-8") from error


def _twice(name: str) -> ProblemError:
    return ProblemError(422, f"the field {name[:100]!r} came twice: send it once")
