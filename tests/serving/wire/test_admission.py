"""Bodies that arrive slowly, from more senders than memory has room for."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.types import Message, Receive, Scope, Send

from serving.wire.admission import Admission, ArrivingBodies

SCOPE: Scope = {"type": "http", "method": "POST", "path": "/v1/search", "headers": []}


class Sender:
    """A client that sends its body part by part, and keeps the answer."""

    def __init__(self, app: Admission) -> None:
        self._parts = asyncio.Queue[Message]()
        self.answer: list[Any] = []
        self._done = asyncio.ensure_future(app(SCOPE, self._parts.get, self._keep))

    async def sends(self, size: int, more: bool = True) -> None:
        self._parts.put_nowait({"type": "http.request", "body": b"x" * size, "more_body": more})
        for _ in range(5):
            await asyncio.sleep(0)

    async def leaves(self) -> None:
        self._parts.put_nowait({"type": "http.disconnect"})
        await self._done

    async def _keep(self, message: Message) -> None:
        self.answer.append(message)

    @property
    def status(self) -> int | None:
        return self.answer[0]["status"] if self.answer else None


async def size_of_body(scope: Scope, receive: Receive, send: Send) -> None:
    size = len((await receive())["body"])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(size).encode()})


def test_a_body_for_which_there_is_no_memory_left_is_refused() -> None:
    async def run() -> None:
        arriving = ArrivingBodies(max_bytes=100)
        searches, events = (Admission(size_of_body, lambda scope: True, 9, 5.0, arriving) for _ in range(2))
        first, second, third = Sender(searches), Sender(events), Sender(searches)
        await first.sends(50)
        await second.sends(50)
        await third.sends(1)
        assert (first.status, second.status, third.status) == (None, None, 429)
        assert (b"retry-after", b"2") in third.answer[0]["headers"]
        await first.sends(1_000, more=False)  # the last part makes it a request in progress
        assert first.answer[1]["body"] == b"1050"
        await second.leaves()
        fourth = Sender(searches)
        await fourth.sends(100)
        await fourth.sends(0, more=False)
        assert fourth.answer[1]["body"] == b"100"

    asyncio.run(run())


def test_a_sender_that_is_too_slow_frees_its_memory() -> None:
    async def run() -> None:
        app = Admission(size_of_body, lambda scope: True, 9, 0.05, ArrivingBodies(max_bytes=100))
        slow = Sender(app)
        await slow.sends(100)
        await asyncio.sleep(0.2)
        assert slow.status == 408
        after = Sender(app)
        await after.sends(100)
        await after.sends(0, more=False)
        assert after.status == 200

    asyncio.run(run())
