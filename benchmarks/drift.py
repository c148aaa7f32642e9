"""How often does the drift test of query photos raise a false alarm, and what does it find? Known truth.

    python -m benchmarks.drift                  # 1,000 runs without drift
    python -m benchmarks.drift --json out.json

Embeddings form clusters, one per thing that is photographed, some far more often than others, and each user
photographs it in their own way. The product's function and policy compare them. Held-out photos come in bursts
of three as well, with and without thinning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.figures import JsonFile, write_figures
from immr.drift.findings import DriftPolicy, of_photos
from immr.drift.two_sample import mmd
from immr.types import FloatArray

DIM, THINGS, NEW_THINGS = 64, 80, 20
OF_THING, OF_USER = 0.4, 0.2  # spread of a thing's photos around it, and of a user's photos of it
ALPHA = 0.05
BURST = 3  # held-out photos of one user


@dataclass(frozen=True)
class Shop:
    """Where things lie: (80, D) those that are known, (20, D) those that are new."""

    known: FloatArray
    new: FloatArray

    def photos(
        self, rng: np.random.Generator, users: int, each: int = 1, new: float = 0.0, camera: float = 0.0
    ) -> FloatArray:
        """(users × each, D) unit rows; a share `new` of the users photographs new things.

        `camera` moves all of them as far the same way, in radii of the things around the middle.
        """
        often = 1 / np.arange(1, THINGS + 1)
        centres = self.known[rng.choice(THINGS, users, p=often / often.sum())]
        is_new = rng.random(users) < new
        centres[is_new] = self.new[rng.integers(0, NEW_THINGS, int(is_new.sum()))]
        of_user = centres + OF_THING * rng.normal(size=(users, DIM)) / np.sqrt(DIM)
        rows = np.repeat(of_user, each, axis=0)
        rows = rows + OF_USER * rng.normal(size=rows.shape) / np.sqrt(DIM)
        rows[:, 0] += camera
        unit: FloatArray = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        return unit


def p_values(
    rng: np.random.Generator,
    shop: Shop,
    runs: int,
    users: int,
    each: int = 1,
    new: float = 0,
    camera: float = 0,
) -> FloatArray:
    """p-values of comparisons, each of new held-out photos (`each` of a user) with new users' photos."""
    policy = DriftPolicy()
    found = [
        of_photos(shop.photos(rng, users, each), shop.photos(rng, users, 1, new, camera), policy)
        for _ in range(runs)
    ]
    return np.array([finding.numbers["p_value"] for finding in found], dtype=np.float32)


def unthinned_p_values(rng: np.random.Generator, shop: Shop, runs: int, users: int, each: int) -> FloatArray:
    """The same without drift, by the test alone: held-out photos as they are, as many as recent ones."""
    found = [mmd(shop.photos(rng, users // each, each), shop.photos(rng, users)) for _ in range(runs)]
    return np.array([one.p_value for one in found], dtype=np.float32)


def main(
    runs: Annotated[int, typer.Option(help="Comparisons without drift.")] = 1000,
    power_runs: Annotated[int, typer.Option(help="Comparisons with each kind of drift.")] = 60,
    users: Annotated[int, typer.Option(help="Users, and held-out photos, of a comparison.")] = 300,
    seed: Annotated[int, typer.Option(help="Another seed, other photos.")] = 0,
    json_file: JsonFile = None,
) -> None:
    """Compare what is alike and what is not, and count the alarms."""
    rng = np.random.default_rng(seed)
    things = rng.normal(size=(THINGS + NEW_THINGS, DIM)) / np.sqrt(DIM)
    shop = Shop(things[:THINGS].astype(np.float32), things[THINGS:].astype(np.float32))
    alarm = DriftPolicy().alpha
    alike = p_values(rng, shop, runs, users)
    bursts = p_values(rng, shop, runs, users, each=BURST)
    unthinned = unthinned_p_values(rng, shop, power_runs, users, BURST)
    figures = {
        "drift_false_alarm_rate": _share(alike <= alarm),
        "drift_false_alarm_rate_at_5_percent": _share(alike <= ALPHA),
        "drift_false_alarm_rate_bursts": _share(bursts <= alarm),
        "drift_false_alarm_rate_bursts_at_5_percent": _share(bursts <= ALPHA),
        "drift_false_alarm_rate_bursts_at_5_percent_unthinned": _share(unthinned <= ALPHA),
    }
    for new in (0.1, 0.2, 0.4):
        found = p_values(rng, shop, power_runs, users, new=new)
        figures[f"drift_found_rate_{new:.0%}_new_things".replace("%", "_percent")] = _share(found <= alarm)
    for camera in (0.1, 0.2, 0.3):
        found = p_values(rng, shop, power_runs, users, camera=camera)
        figures[f"drift_found_rate_camera_{camera}"] = _share(found <= alarm)
    table = Table("figure", "value", title=f"{runs} comparisons of {users} photos with {users} held-out ones")
    for name, value in figures.items():
        table.add_row(name, f"{value:.2%}".replace(".00%", "%"))
    Console().print(table)
    write_figures(json_file, figures)


def _share(found: npt.NDArray[np.bool_]) -> float:
    return float(found.mean())


if __name__ == "__main__":
    typer.run(main)
