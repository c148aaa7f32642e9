"""A load generator, run as a process of its own: photos to `/v1/search`, closed loop or open loop.

    python -m benchmarks.serving.load URL PHOTOS --connections 4 --seconds 5
    python -m benchmarks.serving.load URL PHOTOS --rate 50 --seconds 5

Prints one line of JSON. It builds requests beforehand and barely parses answers, because it shares the
processor with the server that it measures. In an open loop, latency counts from the moment a request was due,
so that a stalled server cannot hide it.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer
import uvloop

BOUNDARY = b"immr-load"


@dataclass
class Seen:
    """Latencies of the answers with status 200, and how many answers had each status."""

    latencies_ms: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    without_retry_after: int = 0

    def add(self, status: int, head: bytes, since: float) -> None:
        """Adds one answer."""
        self.statuses[status] += 1
        if status in (429, 503):
            self.without_retry_after += b"retry-after:" not in head
        if status == 200:
            self.latencies_ms.append(1000 * (time.perf_counter() - since))


class Connection:
    """A keep-alive connection, reopened when the server closes it."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, request: bytes) -> tuple[int, bytes]:
        """Sends a request; returns the answer's status and its head in lower case, or 0 if the connection broke.

        If a kept connection was closed because it idled, it is reopened once, as every client does.
        """
        kept = self._streams is not None
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection(self._host, self._port)
            reader, writer = self._streams
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0]
            await reader.readexactly(int(length))
        except (OSError, asyncio.IncompleteReadError):
            self._streams = None
            return await self.send(request) if kept else (0, b"")
        if b"connection: close" in head:
            writer.close()
            self._streams = None
        return int(head.split(b" ", 2)[1]), head


def requests(photos: list[Path], url: str) -> list[bytes]:
    """One HTTP request per photo, for ten hits, as a gateway sends it."""
    disposition = b"content-disposition: form-data; name="
    made = []
    for number, photo in enumerate(photos):
        body = b"".join(
            [
                b'--%s\r\n%s"user_id"\r\n\r\nuser-%d\r\n' % (BOUNDARY, disposition, number),
                b'--%s\r\n%s"image"; filename="a.jpg"\r\n\r\n' % (BOUNDARY, disposition),
                photo.read_bytes(),
                b"\r\n--%s--\r\n" % BOUNDARY,
            ]
        )
        head = (
            f"POST /v1/search HTTP/1.1\r\nhost: {urlsplit(url).netloc}\r\nx-immr-variant: champion\r\n"
            f"content-type: multipart/form-data; boundary={BOUNDARY.decode()}\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        made.append(head.encode() + body)
    return made


async def closed_loop(url: str, made: list[bytes], connections: int, seconds: float) -> Seen:
    """This many clients, each of which sends the next request once it has its answer."""
    seen = Seen()
    end = time.perf_counter() + seconds

    async def client(number: int) -> None:
        connection = Connection(url)
        while (start := time.perf_counter()) < end:
            seen.add(*await connection.send(made[number % len(made)]), start)
            number += connections

    await asyncio.gather(*(client(number) for number in range(connections)))
    return seen


async def open_loop(url: str, made: list[bytes], rate: float, seconds: float) -> Seen:
    """This many requests a second on average (Poisson), whether or not earlier ones were answered."""
    seen = Seen()
    free: list[Connection] = []
    arrivals = random.Random(0)
    tasks: set[asyncio.Task[None]] = set()

    async def one(request: bytes, due: float) -> None:
        connection = free.pop() if free else Connection(url)
        seen.add(*await connection.send(request), due)
        free.append(connection)

    due = start = time.perf_counter()
    while due < start + seconds:
        due += arrivals.expovariate(rate)
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        task = asyncio.create_task(one(made[arrivals.randrange(len(made))], due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    return seen


def main(
    url: str,
    photos: Annotated[Path, typer.Argument(help="a folder of JPEGs")],
    connections: int = 4,
    rate: Annotated[float, typer.Option(help="requests a second: an open loop")] = 0.0,
    seconds: float = 5.0,
) -> None:
    """Sends requests for a while and prints the result."""
    made = requests(sorted(photos.rglob("*.jpg"))[:64], url)
    start = time.perf_counter()
    loop = open_loop(url, made, rate, seconds) if rate else closed_loop(url, made, connections, seconds)
    seen = uvloop.run(loop)
    took_s = time.perf_counter() - start
    print(
        json.dumps(
            {
                "per_s": len(seen.latencies_ms) / took_s,
                "latencies_ms": sorted(seen.latencies_ms),
                "statuses": seen.statuses,
                "without_retry_after": seen.without_retry_after,
            }
        )
    )


if __name__ == "__main__":
    typer.run(main)
