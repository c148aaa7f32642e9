"""A running `immr serve`, asked one search after the other, and given a changed item."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow.parquet as pq
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.shop.pictures import Thing, write_catalogue_picture
from benchmarks.shop.process_usage import Used, cpu_seconds_of, run, running

WITHIN_S = 900  # for the server to start, and for a new item to appear
PAUSE_S = 0.05  # between two looks
IDLE_S, IDLE_CPU_S = 5.0, 0.5  # so little processor time in so long: nothing is still being loaded
_STAGES = "immr_stage_seconds"


@dataclass(frozen=True)
class Searched:
    """What searches of different users took, one after the other; each clicked the first hit."""

    ms: list[float]
    cpu_ms: float  # processor time of `immr serve` for a search with its click
    mean_ms_by_stage: dict[str, float]  # as the gateway measured it; `total` is its own
    right_at_1: float  # share of the searches


class Service:
    """`immr serve` of a home, which serves the shop in a folder."""

    def __init__(self, shop: Path, environment: Mapping[str, str], logs: Path) -> None:
        self._shop, self._environment, self._logs = shop, environment, logs
        self.used = Used()
        """What it has used, once it has ended."""

    @contextmanager
    def running(self) -> Iterator[None]:
        """Serve during the block, which starts when searches are answered and nothing is still being loaded."""
        port = _free_port()
        command = ["-m", "immr.cli", "serve", "--port", str(port), "--page-port", str(_free_port())]
        with (
            running(command, self._environment, self._logs / "serve.log") as (self._process, self.used),
            httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as self._client,
        ):
            _until(self._is_ready, lambda: self._process.poll() is None)
            run(["-m", "immr.cli", "items", "status"], self._environment, self._logs / "status.log")
            _until(self._is_idle, lambda: self._process.poll() is None)
            yield

    def search(self, count: int, seed: int) -> Searched:
        """Searches with random photos of the shop."""
        truth = pq.read_table(self._shop / "truth.parquet")["item_id"].to_pylist()
        rng, right, search_ms = np.random.default_rng(seed), 0, list[float]()
        before_s, stages_before = cpu_seconds_of(self._process.pid), self._stages()
        for number in range(count):
            query = int(rng.integers(len(truth)))
            photo = (self._shop / "photos" / f"{query}.jpg").read_bytes()
            began = time.perf_counter()
            hit = self._hits(photo, f"shopper-{number}")[0]
            search_ms.append(1e3 * (time.perf_counter() - began))
            right += hit["item_id"] == truth[query]
            click = {"type": "click", "click_token": hit["click_token"], "ts": datetime.now(UTC).isoformat()}
            self._client.post("/v1/events", json={"events": [click]}).raise_for_status()
        cpu_s, stages = cpu_seconds_of(self._process.pid) - before_s, self._stages()
        mean_ms = {
            stage: round(1e3 * (seconds - stages_before.get(stage, 0.0)) / count, 3)
            for stage, seconds in stages.items()
        }
        return Searched(search_ms, 1e3 * cpu_s / count, mean_ms, right / count)

    def upsert(self, item_id: str, thing: Thing) -> tuple[Used, float]:
        """What the command used, and the seconds from its start until a search for its title finds the new item.

        Not a search with its picture: in a large shop, ten others may look more alike.
        """
        picture = self._shop / "catalogue" / f"{item_id}.jpg"
        write_catalogue_picture(thing, picture)
        new = pq.read_table(self._shop / "items.parquet").slice(0, 1).to_pylist()[0]
        title = f"New thing {time.time_ns()}"  # a run that resumes has the item already
        new |= {"item_id": item_id, "title": title, "image": str(picture)}
        changed = self._logs / f"{item_id}.jsonl"
        changed.write_text(json.dumps(new | {"updated_at": datetime.now(UTC).isoformat()}) + "\n")
        command, log = ["-m", "immr.cli", "items", "upsert", str(changed)], self._logs / "upsert.log"
        began = time.perf_counter()
        with running(command, self._environment, log) as (process, used):
            _until(
                lambda: any(hit["title"] == title for hit in self.answer({"text": title})["hits"]),
                lambda: process.poll() in (None, 0),
            )
            took_s = time.perf_counter() - began
            process.wait()
        return used, took_s

    def answer(self, fields: Mapping[str, str], photo: bytes | None = None) -> dict[str, Any]:
        """The answer to one search with these fields."""
        asked = {"data": fields, "files": {"image": photo}} if photo else {"json": fields}
        answer: dict[str, Any] = self._client.post("/v1/search", **asked).raise_for_status().json()
        return answer

    def _hits(self, photo: bytes, user: str) -> list[dict[str, str]]:
        hits: list[dict[str, str]] = self.answer({"user_id": user, "k": "10"}, photo)["hits"]
        return hits

    def _stages(self) -> dict[str, float]:
        """Seconds that the gateway has spent in each stage of searches."""
        text = self._client.get("/metrics").raise_for_status().text
        families = (family for family in text_string_to_metric_families(text) if family.name == _STAGES)
        samples = (sample for family in families for sample in family.samples)
        return {each.labels["stage"]: each.value for each in samples if each.name == f"{_STAGES}_sum"}

    def _is_idle(self) -> bool:
        before_s = cpu_seconds_of(self._process.pid)
        time.sleep(IDLE_S)
        return cpu_seconds_of(self._process.pid) - before_s < IDLE_CPU_S

    def _is_ready(self) -> bool:
        try:
            return self._client.get("/health/ready").status_code == 200
        except httpx.TransportError:
            return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _until(true: Callable[[], bool], is_alive: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not true():
        if not is_alive() or time.monotonic() > deadline:
            raise SystemExit(f"it has {'not happened' if is_alive() else 'ended'} within {WITHIN_S:.0f} s")
        time.sleep(PAUSE_S)
