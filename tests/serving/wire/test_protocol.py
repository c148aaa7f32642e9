"""Head and body of an answer are sent in one piece, in order, and without waiting for a late body."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from serving.wire.protocol import bounded

REQUEST = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
START = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]}


class Wire(asyncio.Transport):
    """Records what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.is_closed = False

    def write(self, data: Any) -> None:
        assert not self.is_closed
        self.writes.append(bytes(data))

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


def answered(app: Callable[..., Awaitable[None]], request: bytes = REQUEST) -> Wire:
    """The wire after the application has answered."""

    async def serve() -> Wire:
        config = uvicorn.Config(app, log_config=None)
        config.load()
        state, wire = ServerState(), Wire()
        protocol = bounded(timeout_s=5.0)(config=config, server_state=state, app_state={})
        protocol.connection_made(wire)
        protocol.data_received(request)
        await asyncio.gather(*state.tasks)
        await asyncio.sleep(0)
        protocol.connection_lost(None)
        return wire

    return asyncio.run(serve())


async def whole(scope: Any, receive: Any, send: Any) -> None:
    await send(START)
    await send({"type": "http.response.body", "body": b"12345"})


def test_an_answer_is_one_write() -> None:
    wire = answered(whole)
    assert len(wire.writes) == 1
    head, _, body = wire.writes[0].partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert body == b"12345"


def test_answers_of_pipelined_requests_are_whole_and_in_order() -> None:
    wire = answered(whole, 3 * REQUEST)
    assert [write[-5:] for write in wire.writes] == 3 * [b"12345"]
    assert all(write.startswith(b"HTTP/1.1 200") for write in wire.writes)


def test_a_head_does_not_wait_for_a_late_body() -> None:
    seen: list[int] = []

    async def late(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await asyncio.sleep(0.01)
        seen.append(1)
        await send({"type": "http.response.body", "body": b"12345"})

    wire = answered(late)
    assert seen
    assert [write.startswith(b"HTTP/1.1") for write in wire.writes] == [True, False]
    assert wire.writes[1] == b"12345"


def test_an_answer_without_a_body_is_sent_before_the_connection_is_closed() -> None:
    async def empty(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": [(b"connection", b"close")]})
        await send({"type": "http.response.body", "body": b""})

    wire = answered(empty)
    assert b"".join(wire.writes).startswith(b"HTTP/1.1 204 No Content\r\n")
    assert wire.is_closed


def test_a_request_that_is_not_http_is_refused_before_the_connection_is_closed() -> None:
    wire = answered(whole, b"\x00\x01\r\n\r\n")
    assert b"".join(wire.writes).startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert wire.is_closed
