"""A search's form as it came: sent on unchanged, with a look at its small fields and no copy of its photo."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message

from serving.http import JSON, ProblemError

_NAME = re.compile(rb'content-disposition:[^\r\n]*;\s*name="([^"\r\n]*)"', re.IGNORECASE)
_MAX_PARTS = 32
_UNREADABLE = "the form cannot be read: send multipart/form-data as every HTTP client does"


@dataclass(frozen=True, slots=True)
class SearchForm:
    """The body of `POST /v1/search`. Whether its fields are right is for the variant to say."""

    body: bytes
    headers: dict[str, str]
    """Those that go on with the body: what it is, and the caller's key where variants want one."""
    parts: dict[str, memoryview]

    @classmethod
    def read(cls, body: bytes, headers: Mapping[str, str]) -> SearchForm:
        """Find the parts of a multipart body (RFC 7578), bytes between delimiter lines, or of a JSON object.

        Raises:
            ProblemError: 400 where it has no boundary, or more parts than a search can have.
        """
        header = Message()
        header["content-type"] = headers.get("content-type", "")
        if header.get_content_type() == JSON:
            return cls(body, passed_on(headers, "content-type", "authorization"), _parts_of_json(body))
        boundary = header.get_param("boundary")
        if not isinstance(boundary, str) or not boundary.isascii():
            raise ProblemError(400, f"{_UNREADABLE}; it names no boundary")
        delimiter = b"\r\n--" + boundary.encode()
        view = memoryview(body)
        parts: dict[str, memoryview] = {}
        start = 0 if body.startswith(delimiter[2:]) else body.find(delimiter) + 2
        for _ in range(_MAX_PARTS + 1):
            end = body.find(delimiter, start)
            if end < 0:
                return cls(body, passed_on(headers, "content-type", "authorization"), parts)
            head = body.find(b"\r\n\r\n", start, end)
            if head >= 0 and (name := _NAME.search(body, start, head + 2)):
                parts.setdefault(name[1].decode("latin-1"), view[head + 4 : end])
            start = end + 2
        raise ProblemError(400, f"{_UNREADABLE}; it has more than {_MAX_PARTS} parts")

    def text(self, name: str) -> str:
        """A field, empty where there is none.

        Raises:
            ProblemError: 400 where it is no UTF-8.
        """
        try:
            return bytes(self.parts.get(name, b"")).decode()
        except UnicodeDecodeError as error:
            raise ProblemError(400, f"the field {name!r} is no valid UTF-8: send it as UTF-8") from error

    def file(self, name: str) -> bytes:
        """A file's content, empty where there is none."""
        return bytes(self.parts.get(name, b""))


def _parts_of_json(body: bytes) -> dict[str, memoryview]:
    """Its texts; whatever else is there is for the variant to judge."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    texts = found.items() if isinstance(found, dict) else ()
    return {
        name: memoryview(value.encode(errors="replace")) for name, value in texts if isinstance(value, str)
    }


def passed_on(headers: Mapping[str, str], *names: str) -> dict[str, str]:
    """Those of the headers that are there."""
    return {name: headers[name] for name in names if name in headers}
