"""How fast does one process read decoded pictures at random, from the cache, from shards on disk and from S3?

    python -m benchmarks.pixel_shards --json pixel_shards.json

Pictures of 224 × 299 random bytes, in batches of 32 photos and 8 documents as fine-tuning draws them; shards are read
four steps ahead. S3 is SeaweedFS on this machine, alone and behind a proxy that delays each request by 20 ms. Every
row is a process of its own. "Start" is CPU time before the first step can be read. `webdataset` reads the same shards
in their own order, which training cannot use; it is measured if it is installed.
"""

from __future__ import annotations

import asyncio
import importlib
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.figures import JsonFile, write_figures
from immr.model.features.pixels import PixelCache, Pixels
from immr.types import ByteArray
from tests.support import s3_process

SIDE_PX, SHAPE = 224, (224, 299, 3)
SHARD = 256
PHOTOS, DOCUMENTS = 32, 8
S3 = f"s3://{s3_process.BUCKET}/pixels"
DELAY_S = 0.02


def main(json_file: JsonFile = None, pictures: int = 1024, steps: int = 100) -> None:
    """Pictures a second, CPU time and memory of one reader, by place."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures = measure(folder, pictures, steps)
    columns = {
        "start_ms": "start, CPU ms",
        "per_s": "pictures/s",
        "cpu_ms": "CPU ms a picture",
        "peak_mib": "peak MiB",
    }
    table = Table("read from", *columns.values(), title=f"{pictures:,} pictures")
    for place, found in figures.items():
        table.add_row(place, *(f"{found[key]:,.2f}" for key in columns))
    Console().print(table)
    write_figures(json_file, figures)


def measure(folder: Path, pictures: int, steps: int) -> dict[str, dict[str, float]]:
    """The row of each place."""
    shards = (folder / "shards").as_uri()
    in_process(fill, folder, "", pictures)
    in_process(fill, folder, shards, pictures)
    figures = {
        "cache, mapped": in_process(read, folder, "", pictures, steps),
        "shards on disk": in_process(read, folder, shards, pictures, steps),
    }
    if find_spec("webdataset"):
        figures["webdataset in sequence, disk"] = in_process(in_sequence, folder / "shards", PHOTOS * steps)
    with s3_process.serving(folder / "s3") as environment:
        os.environ |= environment
        in_process(fill, folder, S3, pictures)
        figures["shards in S3"] = in_process(read, folder, S3, pictures, steps)
        with delayed(environment["AWS_ENDPOINT_URL"]) as endpoint:
            os.environ["AWS_ENDPOINT_URL"] = endpoint
            figures["shards in S3, 20 ms a request"] = in_process(read, folder, S3, pictures, steps)
    return figures


def fill(folder: Path, url: str, pictures: int) -> dict[str, float]:
    """Write the pictures, as `compute` does after decoding."""
    store, rng = PixelCache(folder, SIDE_PX, url=url)._store, np.random.default_rng(0)
    for start in range(0, pictures, SHARD):
        keys = map(key_of, range(start, min(start + SHARD, pictures)))
        store.add({key: rng.integers(0, 256, SHAPE, dtype=np.uint8) for key in keys})
    return {}


def read(folder: Path, url: str, pictures: int, steps: int) -> dict[str, float]:
    """Batches as fine-tuning takes them: four steps ahead if the pictures ask for it."""
    import torch

    from immr.train.inputs.augmented_pictures import STEPS_AHEAD
    from immr.train.inputs.batches import BatchPlan
    from immr.train.inputs.pictures import Pictures
    from immr.train.inputs.step_prefetch import Prefetched
    from immr.train.world import World

    torch.set_num_threads(1)
    documents = pictures // 4
    photos = pictures - documents
    plan = BatchPlan(
        photos, documents, views=1, batch_size=PHOTOS, document_batch_size=DOCUMENTS, seed=0, world=World()
    )
    before_mib, started = peak_mib(), time.process_time()
    pixels: Pixels = PixelCache(folder, SIDE_PX, url=url).read([key_of(row) for row in range(pictures)])
    start_ms = 1e3 * (time.process_time() - started)
    source = Pictures(pixels, np.arange(photos), np.arange(photos, pictures))
    batches = Prefetched(lambda rows, step: source.of(rows), STEPS_AHEAD if pixels.read_ahead else 0)
    epochs = ((step, rows) for epoch in range(steps) for step, rows in enumerate(plan.epoch(epoch)))
    drawn = ((step, rows) for step, (_, rows) in zip(range(steps), epochs, strict=False))

    def taken() -> Iterator[list[ByteArray | None]]:
        for step, rows in batches.ahead(drawn):
            yield batches.of(rows, step)

    return {"start_ms": start_ms} | timed(lambda: sum(touched(batch) for batch in taken()), before_mib)


def in_sequence(folder: Path, pictures: int) -> dict[str, float]:
    """The same shards through `webdataset`, from the first picture on, again if there are too few."""
    webdataset: Any = importlib.import_module("webdataset")
    before_mib = peak_mib()
    shards = [str(path) for path in sorted(folder.rglob("*.tar"))]
    samples = webdataset.WebDataset(shards, shardshuffle=False).decode().repeat()
    found = (sample["npy"] for sample, _ in zip(samples, range(pictures), strict=False))
    return {"start_ms": 0.0} | timed(lambda: sum(touched([picture]) for picture in found), before_mib)


def touched(batch: list[ByteArray | None]) -> int:
    """Read each picture's bytes once, as augmentation does; returns how many there are."""
    for picture in batch:
        assert picture is not None
        picture[::16].max()
    return len(batch)


def timed(reading: Callable[[], int], before_mib: float) -> dict[str, float]:
    """Pictures a second, CPU time of each, and how much the peak of memory grew."""
    started, cpu_s = time.perf_counter(), time.process_time()
    count = reading()
    seconds, cpu_s = time.perf_counter() - started, time.process_time() - cpu_s
    return {
        "per_s": count / seconds,
        "cpu_ms": 1e3 * cpu_s / count,
        "peak_mib": peak_mib() - before_mib,
    }


def key_of(number: int) -> str:
    """The hash of a picture's file."""
    return f"{number:064x}"


def peak_mib() -> float:
    """The most memory that this process has held, mapped pages included."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def in_process(work: Callable[..., dict[str, float]], *arguments: Any) -> dict[str, float]:
    """The result of some work in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


@contextmanager
def delayed(endpoint: str) -> Iterator[str]:
    """The address of a proxy, in a process of its own, that passes each request on after `DELAY_S`."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_proxy, args=(endpoint, theirs), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.kill()
        process.join()


def _proxy(endpoint: str, opened: Any) -> None:
    there = urlsplit(endpoint)

    async def passed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float) -> None:
        while content := await reader.read(1 << 20):
            await asyncio.sleep(delay_s)
            writer.write(content)
            await writer.drain()
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, requests = await asyncio.open_connection(there.hostname, there.port)
        await asyncio.gather(passed(reader, requests, DELAY_S), passed(answers, writer, 0))

    async def serve() -> None:
        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        opened.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(serve())


if __name__ == "__main__":
    typer.run(main)
