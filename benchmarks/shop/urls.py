"""A catalogue whose pictures are behind URLs of a slow, flaky and rate-limited server, read as `immr start` reads it.

    python -m benchmarks.shop.urls --items 20000 --json urls.json

One item in ten gets a busy answer (503) first, one in twenty a lost connection, one in twenty a slow answer; above
`--per-second` requests the server answers 429 with Retry-After. One in fifty has no picture (404), and one in a
hundred answers with an HTML page: those two kinds must be in `rejected/`, and all other items in the training set.
The run is killed once a third is fetched, and started again; `refetched` counts pictures that the second run
requested although the server had answered the first. Pictures are small, so that the figures are those of fetching.
"""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import typer
from PIL import Image

from benchmarks.figures import JsonFile, write_figures
from immr.data.mapping.shop_map import PictureRules
from immr.data.pictures.remote.downloads import Downloads
from immr.data.sources.shop import Shop
from immr.governance.catalogue import catalogue_set
from immr.governance.governance_recipe import GovernanceRecipe

KILLED_AFTER = 1 / 3  # of the pictures
SLOW_S = 1.0
SIDE_PX = 32  # smaller pictures are refused
KINDS = {"busy": 10, "lost": 5, "slow": 5, "gone": 2, "broken": 1}
"""Of a hundred items, so many are of this kind; the others are `plain`."""
REJECTED = ("gone", "broken")
FETCH = "import sys; from pathlib import Path; from benchmarks.shop import urls; urls.fetch(*map(Path, sys.argv[1:]))"


def kind_of(number: int) -> str:
    """How the server treats an item's picture."""
    place = number * 37 % 100
    for kind, share in KINDS.items():
        if place < share:
            return kind
        place -= share
    return "plain"


def picture_of(number: int) -> bytes:
    """A JPEG that no other item has."""
    content = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (SIDE_PX, SIDE_PX, 3), np.uint8)
    Image.fromarray(pixels).save(content, "JPEG")
    return content.getvalue()


class Server:
    """An HTTP server that counts its answers."""

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._free, self._refilled = per_second, time.monotonic()
        self._failed = set[int]()
        self.answers, self.delivered = Counter[str](), Counter[int]()

    async def run(self, pipe: Connection) -> None:
        """Send the port through the pipe, then answer requests until the pipe asks for the counts."""
        server = await asyncio.start_server(self._converse, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        async with server:
            while not pipe.poll():
                await asyncio.sleep(0.1)
        pipe.send((dict(self.answers), sum(count - 1 for count in self.delivered.values())))

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                answer = await self._answer(int(head.split(b" ", 2)[1].removeprefix(b"/")))
                if not answer:
                    break
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client is done with this connection
        finally:
            writer.close()

    async def _answer(self, number: int) -> bytes:
        now = time.monotonic()
        self._free = min(self._per_second, self._free + (now - self._refilled) * self._per_second)
        self._refilled = now
        if self._free < 1:
            return self._counted("limited", 429, b"", b"Retry-After: 1\r\n")
        self._free -= 1
        kind = kind_of(number)
        if kind in ("busy", "lost") and number not in self._failed:
            self._failed.add(number)
            return self._counted("busy", 503, b"") if kind == "busy" else self._counted("lost", 0, b"")
        if kind == "slow":
            await asyncio.sleep(SLOW_S)
        if kind == "gone":
            return self._counted("gone", 404, b"")
        self.delivered[number] += 1
        body = b"<html>Not here</html>" if kind == "broken" else picture_of(number)
        return self._counted("delivered", 200, body)

    def _counted(self, what: str, status: int, body: bytes, fields: bytes = b"") -> bytes:
        self.answers[what] += 1
        head = b"HTTP/1.1 %d Status\r\n%sContent-Length: %d\r\n\r\n" % (status, fields, len(body))
        return head + body if status else b""


def serve(pipe: Connection, per_second: float) -> None:
    """The server's process."""
    asyncio.run(Server(per_second).run(pipe))


def fetch(catalogue: Path, out: Path, pictures: Path) -> None:
    """Check the catalogue and fetch its pictures, as `immr start` does."""
    rules = PictureRules(allow_private=True)
    catalogue_set(Shop.catalogue(catalogue), out, GovernanceRecipe(), downloads=Downloads(pictures, rules))


def main(
    items: Annotated[int, typer.Option(help="Items, each with a picture.")] = 20_000,
    per_second: Annotated[float, typer.Option(help="Requests that the server answers.")] = 300.0,
    json_file: JsonFile = None,
) -> None:
    """Measure, print the figures, and exit with 1 if an item is neither admitted nor rejected as it should be."""
    spawn = get_context("spawn")
    ours, theirs = spawn.Pipe()
    server = spawn.Process(target=serve, args=(theirs, per_second), daemon=True)
    server.start()
    with TemporaryDirectory(prefix="immr-urls-") as temporary:
        folder = Path(temporary)
        write_catalogue(folder / "items.parquet", items, f"http://127.0.0.1:{ours.recv()}")
        began = time.perf_counter()
        first_cpu_s = run_until(folder, round(items * KILLED_AFTER))
        second_cpu_s = run_until(folder, None)
        took_s = time.perf_counter() - began
        ours.send("done")
        answers, refetched = ours.recv()
        found = outcome(folder / "set", items)
    result = {
        "items": items,
        **found,
        "answers": answers,
        "refetched": refetched,
        "seconds": round(took_s, 1),
        "cpu_seconds": round(first_cpu_s + second_cpu_s, 1),
    }
    print(json.dumps(result, indent=1))
    write_figures(json_file, result)
    if found["unaccounted"]:
        sys.exit(1)


def write_catalogue(file: Path, items: int, url: str) -> None:
    """Items with the URLs of their pictures."""
    columns = {
        "item_id": [f"i{number:06d}" for number in range(items)],
        "title": [f"Thing {number}" for number in range(items)],
        "description": [""] * items,
        "category": ["Things"] * items,
        "image": [f"{url}/{number}" for number in range(items)],
        "price": [1.0] * items,
        "updated_at": [datetime(2025, 1, 1, tzinfo=UTC)] * items,
    }
    pq.write_table(pa.table(columns), file)


def run_until(folder: Path, pictures: int | None) -> float:
    """CPU seconds of a run, which is killed once so many pictures are there; None lets it finish."""
    names = [str(folder / name) for name in ("items.parquet", "set", "pictures")]
    process = subprocess.Popen([sys.executable, "-c", FETCH, *names])
    used_s, root = 0.0, psutil.Process(process.pid)
    while process.poll() is None:
        used = root.cpu_times()
        used_s = used.user + used.system
        if pictures is not None and sum(1 for _ in (folder / "pictures").glob("??/*")) >= pictures:
            process.kill()
        time.sleep(0.2)
    if process.returncode and pictures is None:
        sys.exit(f"fetching failed with exit code {process.returncode}")
    return used_s


def outcome(training_set: Path, items: int) -> dict[str, Any]:
    """Counts of admitted items, and of rejected ones by reason; `unaccounted` are wrongly one, or neither."""
    there = set(pq.read_table(training_set / "items.parquet", columns=["item_id"])["item_id"].to_pylist())
    rejected = pq.read_table(training_set / "rejected" / "images.parquet").to_pylist()
    reasons = Counter(row["reason"] for row in rejected)
    lacking = {row["id"] for row in rejected}
    wanted = {f"i{number:06d}" for number in range(items) if kind_of(number) not in REJECTED}
    every = {f"i{number:06d}" for number in range(items)}
    wrong = (there ^ wanted) | (lacking ^ (every - wanted))
    return {"there": len(there), "rejected": dict(reasons), "unaccounted": len(wrong)}


if __name__ == "__main__":
    typer.run(main)
