"""HTTP as gateway and Bento let it in: a request's head has bounds, because strangers write it.

uvicorn reads a head of any length, for any time. Bodies are bounded by `admission` and `application`.
"""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving.wire.problems import PROBLEM_JSON, ProblemError

MAX_HEAD_BYTES = 64 * 1024
_AROUND_A_FIELD = len(": \r\n")


def bounded(timeout_s: float, max_head_bytes: int = MAX_HEAD_BYTES) -> type[BoundedHttp]:
    """The protocol with these bounds for a head, as the `http` of a `uvicorn.Config`."""

    class Bounded(BoundedHttp):
        head_timeout_s = timeout_s
        head_bytes = max_head_bytes

    return Bounded


class BoundedHttp(HttpToolsProtocol):
    """Closes a connection whose next head is too long (431), too slow (408) or no HTTP (400)."""

    head_timeout_s: float
    head_bytes: int
    _field_bytes = 0  # of this request, all told
    _come_bytes = 0  # since a part was whole: a head, a piece of a body, a request
    _is_part_whole = False
    _is_too_long = False
    _has_begun = False  # the head that is awaited
    _too_late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A first head is awaited from now on."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is awaited any more."""
        self._head_is_here()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, then count what is not parsed yet."""
        self._is_part_whole = False
        super().data_received(data)
        self._come_bytes = 0 if self._is_part_whole else self._come_bytes + len(data)
        if self._come_bytes > self.head_bytes and not self.transport.is_closing():
            self._refuse_length()

    def on_message_begin(self) -> None:
        """A connection that is used again waits idle between requests, which uvicorn sees to itself."""
        super().on_message_begin()
        if self._too_late is None:
            self._await_head()
        self._has_begun, self._field_bytes = True, 0

    def on_url(self, url: bytes) -> None:
        """A part of it."""
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """One field, of the head or after a body in chunks."""
        super().on_header(name, value)
        self._count(len(name) + len(value) + _AROUND_A_FIELD)

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._is_part_whole = True
        self._head_is_here()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of it."""
        self._is_part_whole = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """What comes next is another request."""
        self._is_part_whole = True
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """What ended the parser."""
        if self._is_too_long:
            self._refuse_length()
        else:
            self._refuse(400, "this is no valid HTTP request: percent-encode the path, and see RFC 9112")

    def _count(self, field_bytes: int) -> None:
        """One of many that come at once."""
        self._field_bytes += field_bytes
        if self._field_bytes > self.head_bytes:
            self._is_too_long = True
            raise ValueError("too long")  # which ends the parser

    def _await_head(self) -> None:
        self._has_begun = False
        self._too_late = self.loop.call_later(self.head_timeout_s, self._refuse_late)

    def _head_is_here(self) -> None:
        if self._too_late is not None:
            self._too_late.cancel()
            self._too_late = None

    def _refuse_late(self) -> None:
        if self._has_begun:
            self._refuse(
                408, f"the request's head was not here after {self.head_timeout_s:g} s: send it faster"
            )
        else:  # opened for later, as browsers do: an answer would be taken for that of the next request
            self.transport.close()

    def _refuse_length(self) -> None:
        self._refuse(431, f"the request's head is over {self.head_bytes // 1024} KB: send fewer headers")

    def _refuse(self, status: int, detail: str) -> None:
        if (
            self.cycle is None or self.cycle.response_complete
        ):  # else an earlier request's answer is due first
            self.transport.write(_response(ProblemError(status, detail)))
        self.transport.close()


def _response(error: ProblemError) -> bytes:
    status = error.problem.status
    body = json.dumps(error.problem.model_dump(exclude_defaults=True) | {"type": error.problem.type}).encode()
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: {PROBLEM_JSON}\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body
