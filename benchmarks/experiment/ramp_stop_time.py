"""How long until a ramp stops itself? A running gateway, and a challenger that is slow or loses clicks.

    python -m benchmarks.experiment.ramp_stop_time --json out.json

Both versions are stand-ins over HTTP; gateway, event log, registry and decision are the real ones. New users search
at a steady rate from the moment the ramp starts, and `decide` runs every 30 seconds, as `immr serve` does it. The
clock stops when the champion answers a search by one of the challenger's users.
"""

from __future__ import annotations

import random
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.experiment.stand_ins import PHOTO, free_port, stand_in
from benchmarks.figures import JsonFile, write_figures
from immr.experiment import changes
from immr.experiment.assignment import assign
from immr.experiment.definition import CHALLENGER, Experiment
from immr.experiment.file import save
from immr.loop.experiment.decide import decide
from immr.loop.serve import gateway
from immr.settings import Settings
from immr.wiring import Parts, connect


@dataclass(frozen=True)
class Harm:
    """What is wrong with the challenger."""

    name: str
    slower_s: float = 0.0
    ctr: float = 0.1  # of its impressions; the champion's is 0.1


HARMS = (Harm("one second slower", slower_s=1.0), Harm("80 % fewer clicks", ctr=0.02))


class Shoppers:
    """New users who search at a steady rate, and click at the rate of the version that answered."""

    def __init__(self, url: str, rate: float, ctr: dict[str, float], seed: int) -> None:
        self._client = httpx.Client(base_url=url, timeout=30, trust_env=False)
        self._interval_s, self._ctr, self._random = 1 / rate, ctr, random.Random(seed)
        self._numbers, self._ends = count(), threading.Event()
        self.searches = self.failed = 0

    def search(self, user: str) -> dict[str, object]:
        """One search, and clicks on its hits."""
        answer = self._client.post("/v1/search", files={"image": PHOTO}, data={"user_id": user})
        self.searches += 1
        if answer.status_code != 200:
            self.failed += 1
            return {}
        body = answer.json()
        clicked = [hit for hit in body["hits"] if self._random.random() < self._ctr[body["model_version"]]]
        if clicked:
            now = datetime.now(UTC).isoformat()
            events = [{"type": "click", "click_token": hit["click_token"], "ts": now} for hit in clicked]
            self._client.post("/v1/events", json={"events": events})
        return dict(body)

    @contextmanager
    def shopping(self) -> Iterator[None]:
        """They search in threads for the duration of the block."""
        with ThreadPoolExecutor(64) as pool:
            beat = threading.Thread(target=self._beat, args=(pool,))
            beat.start()
            try:
                yield
            finally:
                self._ends.set()
                beat.join()

    def _beat(self, pool: ThreadPoolExecutor) -> None:
        while not self._ends.wait(self._interval_s):
            pool.submit(self.search, f"user-{next(self._numbers)}")


def registered(parts: Parts, folder: Path) -> None:
    """immr-1 is the champion and immr-2 the challenger."""
    folder.mkdir()
    (folder / "card.json").write_text("{}")
    for key in ("one", "two"):
        run = parts.registry.runs.start(key, {}, key=key)
        facts = {"dim": 8, "preprocessing_hash": "p", "manifest_hash": "m", "recipe": "concept"}
        parts.registry.register(folder, key, run, **facts)  # type: ignore[arg-type]
        parts.registry.runs.finish(run)
    parts.registry.set_role("champion", parts.registry.get("immr-1"))
    parts.registry.set_role("challenger", parts.registry.get("immr-2"))


def stopped_in(
    harm: Harm, rate: float, share: float, every_s: float, limit_s: float, seed: int
) -> dict[str, float]:
    """Seconds until the challenger's users get the champion, with the searches so far and those that failed."""
    with tempfile.TemporaryDirectory() as folder, connect(Settings(home=Path(folder) / "home")) as parts:
        registered(parts, Path(folder) / "trained")
        key = parts.token_keys[0]
        with stand_in("immr-1", key) as champion, stand_in("immr-2", key, harm.slower_s) as challenger:
            tested = {CHALLENGER: ("immr-2", challenger)}
            ramp = (2 * share,)
            begun = changes.begin(
                ("immr-1", champion), tested, share, datetime.now(UTC), "ab", None, ramp, 21_600
            )
            save(begun, parts.settings.experiment_file)
            with gateway(parts, free_port()) as search:
                shoppers = Shoppers(search.url, rate, {"immr-1": 0.1, "immr-2": harm.ctr}, seed)
                with shoppers.shopping():
                    took_s = _until_stopped(parts, begun, shoppers, every_s, limit_s)
                return {"seconds": took_s, "searches": shoppers.searches, "failed": shoppers.failed}


def _until_stopped(
    parts: Parts, begun: Experiment, shoppers: Shoppers, every_s: float, limit_s: float
) -> float:
    user = next(f"probe-{n}" for n in range(1000) if assign(begun, f"probe-{n}").name == CHALLENGER)
    started = time.monotonic()
    while time.monotonic() - started < limit_s:
        time.sleep(every_s)
        decide(parts, apply=True, record_wait=False)
        if shoppers.search(user).get("variant") == "champion":
            return time.monotonic() - started
    return float("inf")


def main(
    rate: Annotated[float, typer.Option(help="Searches per second, each of a new user.")] = 10.0,
    share: Annotated[
        float, typer.Option(help="The challenger's first share; the next would be twice as much.")
    ] = 0.1,
    every_s: Annotated[float, typer.Option(help="Seconds between two decisions; 30 in `immr serve`.")] = 30.0,
    limit_s: Annotated[float, typer.Option(help="Give up after this time.")] = 900.0,
    seed: Annotated[int, typer.Option(help="Seed of the clicks.")] = 0,
    json_file: JsonFile = None,
) -> None:
    """Start a ramp to a bad challenger, and wait until it has stopped itself."""
    figures: dict[str, float] = {}
    table = Table(
        "challenger", "stopped after", "searches", "failed", title=f"{rate:g} searches/s, share {share:.0%}"
    )
    for harm in HARMS:
        found = stopped_in(harm, rate, share, every_s, limit_s, seed)
        table.add_row(
            harm.name, f"{found['seconds']:.0f} s", f"{found['searches']:,}", f"{found['failed']:,}"
        )
        figures[f"ramp_stopped_in_s {harm.name}"] = found["seconds"]
        figures[f"searches {harm.name}"] = found["searches"]
    figures["ramp_stopped_in_s"] = max(figures[f"ramp_stopped_in_s {harm.name}"] for harm in HARMS)
    Console().print(table)
    write_figures(json_file, figures)


if __name__ == "__main__":
    typer.run(main)
