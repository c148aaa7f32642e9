"""The loop over one shop: each verb in a separate process, as a user would run it. An interrupted run resumes."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import numpy as np
import pyarrow.parquet as pq

from benchmarks.shop import tables
from benchmarks.shop.measured import Used, cpu_seconds_of, run, running
from benchmarks.shop.pictures import Thing, write_catalogue_picture
from benchmarks.shop.tables import Size
from immr import recipes
from immr.experiment import changes
from immr.experiment.definition import save
from immr.recipes import Recipe
from immr.settings import Settings
from immr.storage.atomic import write_atomically

SEARCHES = 150  # enough users with a photo and a click for every finding of `immr drift`
WITHIN_S = 900  # for the server to start, and for a new item to appear
PAUSE_S = 0.05  # between two looks
SEED = 0


@dataclass
class Figures:
    """What the loop over one shop used."""

    used: dict[str, Used] = field(default_factory=dict)
    search_ms: list[float] = field(default_factory=list)
    search_cpu_ms: float = 0.0  # processor time of `immr serve` for a search with its click
    upsert_s: float = 0.0
    first_upsert_s: float = 0.0  # since `immr serve` started, which then loads what it needs for changes
    right_at_1: float = 0.0  # share of the searches, of photos in the log's distribution

    @classmethod
    def read(cls, file: Path) -> Figures:
        """Those of an earlier run, if there was one."""
        if not file.is_file():
            return cls()
        values = json.loads(file.read_text())
        return cls(**values | {"used": {verb: Used(**used) for verb, used in values["used"].items()}})


def small_recipe() -> Recipe:
    """`concept` with small pictures, one view and few epochs: time goes to the shop's size, not to the encoder."""
    base = recipes.concept()
    return replace(
        base,
        name="shop",
        model=replace(base.model, image_size_px=96),
        train=replace(base.train, epochs=4, views=1, negative_rate=1.0),
    )


def without_cleaning(recipe: Recipe) -> Recipe:
    """The same without cleaning by appearance, which embeds every photo."""
    return replace(recipe, governance=replace(recipe.governance, clean_labels=False))


class Loop:
    """One shop and one home, below a folder."""

    def __init__(
        self, folder: Path, recipe_file: Path, tell: Callable[[str], None], with_model: bool = True
    ) -> None:
        self.shop, self.home = folder / "shop", folder / "home"
        self._folder, self._recipe, self._tell = folder, str(recipe_file), tell
        self._with_model = with_model
        self._set = str(folder / "training-set")
        self._environment = {"IMMR_HOME": str(self.home), "IMMR_KEEP_PHOTOS": "true"}
        self._file = folder / "figures.json"
        self.figures = Figures.read(self._file)

    def run(self, size: Size) -> Figures:
        """All verbs, in the order of the README; without a model, those that compute no embedding."""
        shop = str(self.shop)
        if not (self.shop / "impressions.parquet").is_file():
            self._tell(f"drawing {size.items:,} items and {size.queries:,} photos")
            began = time.perf_counter()
            tables.write(size, self.shop, SEED)
            self._tell(
                f"  {(size.items + size.queries) / (time.perf_counter() - began):,.0f} pictures a second"
            )
        self._verb("check", "data", "check", shop)
        self._verb("govern", "govern", shop, "--out", self._set, "--recipe", self._recipe)
        if self._with_model:
            self._run_with_model(size)
        else:
            self._verb("materialize", "materialize", self._set, shop)
        self._read_out()
        return self.figures

    def _run_with_model(self, size: Size) -> None:
        shop = str(self.shop)
        self._verb("train", "train", self._set, "--recipe", self._recipe, "--processes", "1")
        report = str(self._folder / "evaluation.html")
        self._verb(
            "evaluate", "evaluate", "--model", "immr-1", "--recipe", self._recipe, "--report", report,
            may_exit=(0, 1),
        )  # fmt: skip
        self._verb("package", "package", "--model", "immr-1", "--recipe", self._recipe)
        self._verb("index", "index", "build", self._set, "--model", "immr-1")
        self._verb("materialize", "materialize", self._set, shop)
        self._verb("deploy", "deploy", "--model", "immr-1", "--force")
        if "upsert" not in self.figures.used:
            self._serve(size)
        self._verb("push", "push", self._set, shop)
        self._verb("export", "events", "export", "--out", str(self._folder / "next-log"))
        self._verb("drift", "drift", self._set, may_exit=(0, 2))

    def _verb(self, name: str, *arguments: str, may_exit: Sequence[int] = (0,)) -> None:
        if name in self.figures.used:
            return
        used = run(["-m", "immr.cli", *arguments], self._environment, self._log(name), may_exit)
        self._note(name, used)

    def _note(self, name: str, used: Used) -> None:
        self.figures.used[name] = used
        write_atomically(self._file, json.dumps(asdict(self.figures)))
        self._tell(
            f"  {name:12} {used.seconds:7.1f} s {used.cpu_seconds:7.1f} CPU s {used.peak_gib:6.2f} GiB"
        )

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def _serve(self, size: Size) -> None:
        port = _free_port()
        command = ["-m", "immr.cli", "serve", "--port", str(port), "--page-port", str(_free_port())]
        with (
            running(command, self._environment, self._log("serve")) as (process, used),
            httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
        ):
            _until(lambda: _is_ready(client), WITHIN_S, lambda: process.poll() is None)
            before_s = cpu_seconds_of(process.pid)
            self._search(client, size)
            self.figures.search_cpu_ms = 1e3 * (cpu_seconds_of(process.pid) - before_s) / SEARCHES
            first, self.figures.first_upsert_s = self._upsert(client, size, "first")
            second, self.figures.upsert_s = self._upsert(client, size, "second")
        used.cpu_seconds -= first.cpu_seconds + second.cpu_seconds  # they ran meanwhile
        self._note("upsert", second)
        self._note("serve", used)

    def _search(self, client: httpx.Client, size: Size) -> None:
        """Searches of different users, one after the other; each clicks the first hit."""
        truth = pq.read_table(self.shop / "truth.parquet")["item_id"].to_pylist()
        rng, right = np.random.default_rng(SEED), 0
        for number in range(SEARCHES):
            query = int(rng.integers(size.queries))
            photo = (self.shop / "photos" / f"{query}.jpg").read_bytes()
            began = time.perf_counter()
            answer = _searched(client, photo, f"shopper-{number}")
            self.figures.search_ms.append(1e3 * (time.perf_counter() - began))
            hit = answer["hits"][0]
            right += hit["item_id"] == truth[query]
            click = {"type": "click", "click_token": hit["click_token"], "ts": datetime.now(UTC).isoformat()}
            client.post("/v1/events", json={"events": [click]}).raise_for_status()
        self.figures.right_at_1 = right / SEARCHES

    def _upsert(self, client: httpx.Client, size: Size, name: str) -> tuple[Used, float]:
        """What the command used, and the seconds from its start until a search finds the new item."""
        thing = Thing.of(SEED, size.items + len(name))
        picture = self.shop / "catalogue" / f"{name}.jpg"
        write_catalogue_picture(thing, picture)
        new = pq.read_table(self.shop / "items.parquet").slice(0, 1).to_pylist()[0]
        new |= {"item_id": name, "title": "New thing", "image": str(picture)}
        changed = self._folder / f"{name}.jsonl"
        changed.write_text(json.dumps(new | {"updated_at": datetime.now(UTC).isoformat()}) + "\n")
        began = time.perf_counter()
        with running(
            ["-m", "immr.cli", "items", "upsert", str(changed)], self._environment, self._log("upsert")
        ) as (process, used):
            content = picture.read_bytes()
            _until(lambda: _finds(client, content, name), WITHIN_S, lambda: process.poll() in (None, 0))
            took_s = time.perf_counter() - began
            process.wait()
        return used, took_s

    def _read_out(self) -> None:
        """The shop's whole log, read out as an A/B test of a month."""
        events, now = self._folder / "events", datetime.now(UTC)
        if not events.is_dir():
            tables.write_events(self.shop, events)
        sides = (("immr-1", "http://127.0.0.1:1"), ("immr-2", "http://127.0.0.1:2"))
        test = changes.begin(*sides, 0.5, now - timedelta(days=30))
        save(test, Settings(home=self.home).experiment_file)
        self._verb("readout", "experiment", "readout", "--from", str(events), "--json")

    def label_precision(self) -> float:
        """Share of the training photos whose class is that of the item they show."""
        folder = Path(self._set)
        items = pq.read_table(folder / "items.parquet", columns=["item_id", "class_id"]).to_pydict()
        class_of = dict(zip(items["item_id"], items["class_id"], strict=True))
        truth = pq.read_table(self.shop / "truth.parquet").to_pydict()
        item_of: Mapping[str, str] = dict(zip(truth["query_id"], truth["item_id"], strict=True))
        kept = pq.read_table(folder / "queries.parquet", columns=["query_id", "class_id"]).to_pydict()
        right = [class_of.get(item_of[q]) == c for q, c in zip(*kept.values(), strict=True)]
        return float(np.mean(right))


def _searched(client: httpx.Client, photo: bytes, user: str) -> dict[str, list[dict[str, str]]]:
    answer = client.post("/v1/search", files={"image": photo}, data={"user_id": user, "k": "10"})
    answer.raise_for_status()
    found: dict[str, list[dict[str, str]]] = answer.json()
    return found


def _finds(client: httpx.Client, photo: bytes, item_id: str) -> bool:
    return any(hit["item_id"] == item_id for hit in _searched(client, photo, "watcher")["hits"])


def _is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/health/ready").status_code == 200
    except httpx.TransportError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _until(true: Callable[[], bool], within_s: float, is_alive: Callable[[], bool]) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        if not is_alive() or time.monotonic() > deadline:
            raise SystemExit(f"it has {'not happened' if is_alive() else 'ended'} within {within_s:.0f} s")
        time.sleep(PAUSE_S)
