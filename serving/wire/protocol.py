"""The HTTP protocol of gateway and Bento, which limits the head of a request in size and time.

uvicorn reads a head of any length for any time. `admission` and `application` limit the bodies.
"""

from __future__ import annotations

import asyncio
import json
import sys
from http import HTTPStatus
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving.wire.problems import PROBLEM_JSON, ProblemError

MAX_HEAD_BYTES = 64 * 1024
_FIELD_OVERHEAD = len(": \r\n")
_STATUS_LINE = b"HTTP/1.1 "


def bounded(timeout_s: float, max_head_bytes: int = MAX_HEAD_BYTES) -> type[BoundedHttp]:
    """The protocol with these bounds, for `http` of a `uvicorn.Config`."""

    class Bounded(BoundedHttp):
        head_timeout_s = timeout_s
        head_bytes = max_head_bytes

    return Bounded


class _WholeAnswers:
    """A transport that sends the head of an answer together with the body's first piece.

    uvicorn writes them one after the other, so that each would wake up the receiver and be read by itself.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(_STATUS_LINE):
            self._head = data
            self._loop.call_soon(self._send_head)  # the body may take a while
            return
        self._transport.write(data)

    def close(self) -> None:
        self._send_head()
        self._transport.close()

    def _send_head(self) -> None:
        if self._head and not self._transport.is_closing():
            self._transport.write(self._head)
        self._head = b""


class BoundedHttp(HttpToolsProtocol):
    """Closes a connection if a head is too long (431), too slow (408) or not HTTP (400).

    Offers to use another protocol (`Upgrade: h2c`, as Java's HTTP client sends) are ignored.
    """

    head_timeout_s: float
    head_bytes: int
    _field_bytes = 0  # of the current request
    _unparsed_bytes = 0  # received since the last complete head, piece of a body, or request
    _completed_a_part = False
    _is_too_long = False
    _head_has_begun = False
    _timeout: asyncio.TimerHandle | None = None
    _received = b""
    _to_parse_again = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts the timeout of the first head."""
        super().connection_made(cast(asyncio.Transport, _WholeAnswers(transport, self.loop)))
        self._start_timeout()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops the timeout."""
        self._stop_timeout()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parses, then limits what the parser buffers."""
        self._completed_a_part = False
        self._received = data
        while self._received:
            self._to_parse_again = b""
            super().data_received(self._received)
            self._received = self._to_parse_again
        self._unparsed_bytes = 0 if self._completed_a_part else self._unparsed_bytes + len(data)
        if self._unparsed_bytes > self.head_bytes and not self.transport.is_closing():
            self._refuse_length()

    def on_message_begin(self) -> None:
        """Starts the timeout of a later head. uvicorn itself closes a connection that idles in between."""
        super().on_message_begin()
        if self._timeout is None:
            self._start_timeout()
        self._head_has_begun, self._field_bytes = True, 0

    def on_url(self, url: bytes) -> None:
        """Receives a piece of the URL."""
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Receives a header, or a trailer after a chunked body."""
        super().on_header(name, value)
        self._count(len(name) + len(value) + _FIELD_OVERHEAD)

    def on_headers_complete(self) -> None:
        """Ends the head."""
        self._completed_a_part = True
        self._stop_timeout()
        if not self._offers_upgrade():
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Receives a piece of the body."""
        self._completed_a_part = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Ends the request."""
        self._completed_a_part = True
        if not self._offers_upgrade():
            super().on_message_complete()

    def _should_upgrade(self) -> bool:
        return False  # not to WebSocket either

    def _offers_upgrade(self) -> bool:
        """Whether the parser takes what follows the head for another protocol; a proxy's CONNECT is just refused."""
        return bool(self.parser.should_upgrade()) and self.parser.get_method() != b"CONNECT"

    def _unsupported_upgrade_warning(self) -> None:
        """Has a request parsed again without the offer, because the parser takes its body for the other protocol."""
        upgrade = sys.exception()
        if not isinstance(upgrade, httptools.HttpParserUpgrade) or not self._offers_upgrade():
            return
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        fields = [(name, value) for name, value in self.headers if name != b"upgrade"]
        head = [b"%s %s HTTP/%s" % (method, self.url, version), *(b"%s: %s" % field for field in fields)]
        self.parser = httptools.HttpRequestParser(self)
        self._to_parse_again = b"\r\n".join([*head, b"", self._received[upgrade.args[0] :]])

    def send_400_response(self, msg: str) -> None:
        """Answers the error that stopped the parser."""
        if self._is_too_long:
            self._refuse_length()
        else:
            self._refuse(400, "This is not a valid HTTP request. Percent-encode the path, and see RFC 9112.")

    def _count(self, field_bytes: int) -> None:
        self._field_bytes += field_bytes
        if self._field_bytes > self.head_bytes:
            self._is_too_long = True
            raise ValueError("the head is too long")  # stops the parser, which calls send_400_response

    def _start_timeout(self) -> None:
        self._head_has_begun = False
        self._timeout = self.loop.call_later(self.head_timeout_s, self._refuse_late)

    def _stop_timeout(self) -> None:
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None

    def _refuse_late(self) -> None:
        if self._head_has_begun:
            self._refuse(408, f"The head did not arrive within {self.head_timeout_s:g} s. Send it faster.")
        else:  # browsers open connections in advance, and would take an answer for that of their next request
            self.transport.close()

    def _refuse_length(self) -> None:
        self._refuse(431, f"The head is larger than {self.head_bytes // 1024} KB. Send fewer headers.")

    def _refuse(self, status: int, detail: str) -> None:
        cycle = self.cycle
        is_receiving = cycle and cycle.more_body and not (cycle.response_started or self.pipeline)
        # else an earlier request is answered first
        if cycle is None or cycle.response_complete or is_receiving:
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
