"""Reads the body of a search, and keeps the original bytes so that the gateway can forward them.

A body is a form, JSON with photos in base64, or one photo whose other fields are in the query string. In forms,
python-multipart finds the parts; each part is a view of the body, so a photo is not copied.
"""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from serving.wire.application import JSON, media_type
from serving.wire.json_body import read_json, repeated
from serving.wire.problems import ProblemError

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

PHOTO = "image"
REPEATABLE = frozenset({PHOTO, "filter", "facets"})
_MAX_PARTS = 32
_MULTIPART = "multipart/form-data"
_AS_IN_RFC_4648 = str.maketrans({"-": "+", "_": "/", " ": None, "\t": None, "\r": None, "\n": None})
_KINDS = 'Send multipart/form-data with a file field "image", JSON, or a photo as image/jpeg.'


@dataclass(frozen=True, slots=True)
class SearchForm:
    """The body of `POST /v1/search`, read the same way by the gateway and the Bento.

    `search_request.validate` checks the values.
    """

    body: bytes
    headers: dict[str, str]
    """Forwarded with the body: its content type and the caller's key."""
    query: str
    """Forwarded as well; empty unless the body is a photo."""
    values: Any
    """A form's fields by name, as text or file content; for JSON, the parsed value, whatever its type. Without
    photos; a list where a field may occur several times."""
    photos: tuple[memoryview, ...]
    unread: tuple[str, ...] = ()
    """Names in the query string beside a form or JSON, whose fields are in the body."""

    @property
    def asks_for_page(self) -> bool:
        """Whether the search continues an earlier answer, which only one model version can do."""
        return isinstance(self.values, Mapping) and bool(self.values.get("page"))

    @property
    def is_photo_alone(self) -> bool:
        """Whether the search is for whole photos, without text."""
        asked = isinstance(self.values, Mapping) and (self.values.get("box") or self.values.get("text"))
        return bool(self.photos) and not asked

    @classmethod
    def read(cls, body: bytes, headers: Mapping[str, str], query: str = "") -> SearchForm:
        """Reads a multipart body (RFC 7578), JSON, or a photo with its fields in the query string.

        Raises:
            ProblemError: 415 for another content type, 400 for a malformed body, 422 for a repeated field.
        """
        content_type = headers.get("content-type", "")
        forwarded = pick(headers, "content-type", "authorization")
        kind = media_type(content_type)
        if kind == JSON:
            values, photos = _without_photos(read_json(body))
            return cls(body, forwarded, "", values, photos, _names_in(query))
        if kind.startswith("image/"):
            return cls(body, forwarded, query, _query_fields(query), (memoryview(body),))
        if kind != _MULTIPART:
            raise ProblemError(415, f"The content type is {content_type[:100]!r}. {_KINDS}")
        parts = _Parts(body)
        parts.read(_boundary(content_type))
        photos = tuple(part.content() for part in parts.by_name.pop(PHOTO, []))
        values = {name: _texts(name, of) for name, of in parts.by_name.items()}
        return cls(body, forwarded, "", values, photos, _names_in(query))


def pick(headers: Mapping[str, str], *names: str) -> dict[str, str]:
    """The headers with these names that are present."""
    return {name: headers[name] for name in names if name in headers}


def _without_photos(content: Any) -> tuple[Any, tuple[memoryview, ...]]:
    """Parsed JSON without its photos, and these. Photos are base64, also as `data:` URLs; null counts as absent."""
    given = content.pop(PHOTO, None) if isinstance(content, dict) else None
    if given is None:
        return content, ()
    texts = given if isinstance(given, list) else [given]
    return content, tuple(memoryview(_photo(text)) for text in texts)


def _photo(text: Any) -> bytes:
    """Decodes base64 as it is found: in lines, in the alphabet for URLs, and without its padding."""
    try:
        if not isinstance(text, str):
            raise ValueError("not text")
        encoded = text.partition(",")[2] if text.lstrip()[:5].lower() == "data:" else text
        with suppress(Base64Error):  # almost always, and ten times as fast
            return b64decode(encoded, validate=True)
        plain = encoded.translate(_AS_IN_RFC_4648).rstrip("=")
        return b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (Base64Error, ValueError) as error:
        raise ProblemError(
            422, "In JSON, the image must be base64. Encode it, or send the photo in a form."
        ) from error


def _query_fields(query: str) -> dict[str, str | list[str]]:
    found: dict[str, str | list[str]] = {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=_MAX_PARTS)
    except ValueError as error:
        reason = (
            f"has more than {_MAX_PARTS} fields"
            if query.count("&") >= _MAX_PARTS
            else "is malformed. Percent-encode its values as UTF-8"
        )
        raise ProblemError(400, f"The query string {reason}.") from error
    for name, value in pairs:
        if name in REPEATABLE:
            found[name] = [*found.get(name, []), value]
        elif name in found:
            raise repeated(name)
        else:
            found[name] = value
    return found


def _names_in(query: str) -> tuple[str, ...]:
    return tuple(name for name, _ in parse_qsl(query, keep_blank_values=True)) if query else ()


def _texts(name: str, parts: list[_Part]) -> str | memoryview | list[str | memoryview]:
    texts = [part.text(name) for part in parts]
    return texts if name in REPEATABLE else texts[0]


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
        self.by_name: dict[str, list[_Part]] = {}
        self._body = body
        self._view = memoryview(body)
        self._part = _Part()
        self._begun = 0
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
        self._begun += 1
        if self._begun > _MAX_PARTS:
            raise _malformed(f"It has more than {_MAX_PARTS} parts.")
        self._part = _Part()

    def _head(self, data: bytes, start: int, end: int) -> None:
        self._part.head.append(data[start:end])

    def _end(self) -> None:
        name = self._part.name()
        if name in self.by_name and name not in REPEATABLE:
            raise repeated(name)
        self.by_name.setdefault(name, []).append(self._part)

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
