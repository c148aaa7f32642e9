"""Reads the body of a search, and keeps it as it came so that the gateway can forward it unchanged.

python-multipart finds the parts; each part is a view of the body, so a photo is not copied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from serving.wire.application import JSON, media_type
from serving.wire.json_body import read_json, repeated
from serving.wire.problems import ProblemError

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

PHOTO = "image"
_MAX_PARTS = 32
_MULTIPART = "multipart/form-data"
_KINDS = 'Send multipart/form-data with a file field "image", or JSON with an "item_id" or a "page".'


@dataclass(frozen=True, slots=True)
class SearchForm:
    """The body of `POST /v1/search`, read the same way by the gateway and the Bento.

    `search_request.validate` checks the values.
    """

    body: bytes
    headers: dict[str, str]
    """Forwarded with the body: its content type and the caller's key."""
    values: Any
    """A form's fields by name, as text or file content; for JSON, the parsed value, whatever its type."""
    photo: memoryview | None

    @property
    def asks_for_page(self) -> bool:
        """Whether the search continues an earlier answer, which only one model version can do."""
        return isinstance(self.values, Mapping) and bool(self.values.get("page"))

    @classmethod
    def read(cls, body: bytes, headers: Mapping[str, str]) -> SearchForm:
        """Reads a multipart body (RFC 7578) or JSON.

        Raises:
            ProblemError: 415 for another content type, 400 for a malformed body, 422 for a repeated field.
        """
        content_type = headers.get("content-type", "")
        forwarded = pick(headers, "content-type", "authorization")
        if (kind := media_type(content_type)) == JSON:
            return cls(body, forwarded, read_json(body), None)
        if kind != _MULTIPART:
            raise ProblemError(415, f"The content type is {content_type[:100]!r}. {_KINDS}")
        parts = _Parts(body)
        parts.read(_boundary(content_type))
        fields = {name: part.text(name) for name, part in parts.by_name.items() if name != PHOTO}
        photo = parts.by_name.get(PHOTO)
        return cls(body, forwarded, fields, photo.content() if photo else None)


def pick(headers: Mapping[str, str], *names: str) -> dict[str, str]:
    """The headers with these names that are present."""
    return {name: headers[name] for name in names if name in headers}


class _Part:
    """One part of a form. Its content is one view, unless it contains what looks like a boundary."""

    def __init__(self) -> None:
        self.head: list[bytes] = []
        self.views: list[memoryview] = []
        self.is_file = False

    def content(self) -> memoryview:
        return self.views[0] if len(self.views) == 1 else memoryview(b"".join(self.views))

    def text(self, name: str) -> str | memoryview:
        if self.is_file:
            return self.content()
        return _utf8(bytes(self.content()), f"The field {name[:100]!r}")

    def name(self) -> str:
        """Reads name and kind from the part's head; every other header is ignored."""
        for line in b"".join(self.head).split(b"\n"):
            header, _, value = line.partition(b":")
            if header.strip().lower() == b"content-disposition":
                _, options = parse_options_header(value)
                self.is_file = b"filename" in options
                if name := options.get(b"name"):
                    return _utf8(name, "The name of a field")
        raise _malformed("A part has no name.")


class _Parts:
    """Collects the parts that the parser reports."""

    def __init__(self, body: bytes) -> None:
        self.by_name: dict[str, _Part] = {}
        self._body = body
        self._view = memoryview(body)
        self._part = _Part()
        self._parts = 0
        self._is_complete = False

    def read(self, boundary: bytes) -> None:
        callbacks: MultipartCallbacks = {
            "on_part_begin": self._begin,
            "on_header_field": self._head,
            "on_header_value": lambda data, start, end: self._part.head.append(b":" + data[start:end]),
            "on_header_end": lambda: self._part.head.append(b"\n"),
            "on_part_data": lambda data, start, end: self._part.views.append(self._view[start:end]),
            "on_part_end": self._end,
            "on_end": self._finish,
        }
        try:
            MultipartParser(boundary, callbacks).write(self._body)
        except FormParserError as error:
            raise _malformed(f"{error}.") from error
        if not self._is_complete:
            raise _malformed("Its end is missing, as if it had been cut off.")

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise _malformed(f"It has more than {_MAX_PARTS} parts.")
        self._part = _Part()

    def _head(self, data: bytes, start: int, end: int) -> None:
        self._part.head.append(data[start:end])

    def _end(self) -> None:
        name = self._part.name()
        if name in self.by_name:
            raise repeated(name)
        self.by_name[name] = self._part

    def _finish(self) -> None:
        self._is_complete = True


def _boundary(content_type: str) -> bytes:
    try:
        _, options = parse_options_header(content_type)
    except UnicodeEncodeError:
        options = {}
    boundary = options.get(b"boundary", b"")
    if not boundary or not boundary.isascii():
        raise _malformed("The content type names no boundary.")
    return boundary


def _utf8(content: bytes, what: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ProblemError(400, f"{what} is not valid UTF-8. Encode it as UTF-8.") from error


def _malformed(reason: str) -> ProblemError:
    return ProblemError(400, f"The multipart/form-data body is malformed. {reason}")
