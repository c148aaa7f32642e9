"""The loop over one shop: each verb in a separate process, as a user would run it. An interrupted run resumes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from benchmarks.shop import known_features, tables
from benchmarks.shop.pictures import Thing
from benchmarks.shop.process_usage import Used, run
from benchmarks.shop.serving import Service
from benchmarks.shop.tables import Size
from immr import recipes
from immr.experiment import changes
from immr.experiment.file import save
from immr.recipes import Recipe
from immr.settings import Settings
from immr.storage.atomic import write_atomically

SEARCHES = 150  # enough users with a photo and a click for every finding of `immr drift`
SEED = 0
DRAWN = 1000  # items and photos with a picture of their own, if nothing is embedded or features are known


@dataclass
class Figures:
    """What the loop over one shop used."""

    used: dict[str, Used] = field(default_factory=dict)
    search_ms: list[float] = field(default_factory=list)
    search_cpu_ms: float = 0.0  # processor time of `immr serve` for a search with its click
    search_stage_ms: dict[str, float] = field(default_factory=dict)  # means
    upsert_s: float = 0.0
    first_upsert_s: float = 0.0  # since `immr serve` started
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
        train=replace(base.train, epochs=4, views=1),
    )


def without_cleaning(recipe: Recipe) -> Recipe:
    """The same without cleaning by appearance, which embeds every photo."""
    return replace(recipe, governance=replace(recipe.governance, clean_labels=False))


class Loop:
    """One shop and one home, below a folder."""

    def __init__(
        self,
        folder: Path,
        recipe_file: Path,
        tell: Callable[[str], None],
        with_model: bool = True,
        known_features: bool = False,
    ) -> None:
        self.shop, self.home = folder / "shop", folder / "home"
        self._folder, self._recipe, self._tell = folder, str(recipe_file), tell
        self._with_model, self._known_features = with_model, known_features
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
            draws_all = self._with_model and not self._known_features
            tables.write(size, self.shop, SEED, None if draws_all else DRAWN)
            self._tell(
                f"  {(size.items + size.queries) / (time.perf_counter() - began):,.0f} pictures a second"
            )
        if self._known_features and not self.figures.used:
            known_features.fill(self.shop, self.home / "cache", recipes.by_name(self._recipe))
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
            may_exit=(0, 3),
        )  # fmt: skip
        self._verb("package", "package", "--model", "immr-1", "--recipe", self._recipe)
        self._verb("index", "index", "build", self._set, "--model", "immr-1")
        self._verb("materialize", "materialize", self._set, shop)
        self._verb("deploy", "deploy", "--model", "immr-1", "--force")
        if "upsert" not in self.figures.used:
            self._serve(size)
        self._verb("materialize-events", "materialize", self._set, shop, "--events")
        self._verb("export", "events", "export", "--out", str(self._folder / "next-log"))
        self._verb("drift", "drift", self._set, may_exit=(0, 3))

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
        service = Service(self.shop, self._environment, self._folder)
        with service.running():
            searched = service.search(SEARCHES, SEED)
            first, self.figures.first_upsert_s = service.upsert("first", Thing.of(SEED, size.items))
            second, self.figures.upsert_s = service.upsert("second", Thing.of(SEED, size.items + 1))
        self.figures.search_ms, self.figures.search_cpu_ms = searched.ms, searched.cpu_ms
        self.figures.search_stage_ms = searched.mean_ms_by_stage
        self.figures.right_at_1 = searched.right_at_1
        service.used.cpu_seconds -= first.cpu_seconds + second.cpu_seconds  # they ran meanwhile
        self._note("upsert", second)
        self._note("serve", service.used)

    def _read_out(self) -> None:
        """The shop's whole log, read out as an A/B test of a month."""
        events, now = self._folder / "events", datetime.now(UTC)
        if not events.is_dir():
            tables.write_events(self.shop, events)
        champion, challenger = ("immr-1", "http://127.0.0.1:1"), ("immr-2", "http://127.0.0.1:2")
        test = changes.begin(champion, {"challenger": challenger}, 0.5, now - timedelta(days=30))
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
