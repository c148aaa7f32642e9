"""Does the interval of a version's recall contain the recall on other users and other products?

python -m benchmarks.evaluation.recall_intervals --runs 1000

Judgements are simulated: each user photographs some products, popular ones more often, and a photo is right with a
probability that depends on its user and its product. The recall that counts is that over all users and products.
"""

from __future__ import annotations

import math
from typing import Annotated, NamedTuple

import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.table import Table
from scipy.special import ndtr

from benchmarks.figures import JsonFile, write_figures
from immr.evaluation.bootstrap import Estimate, mean_estimate
from immr.evaluation.proportions import mean_estimates

Ids = npt.NDArray[np.int64]
ROUNDS, CONFIDENCE = 300, 0.95


class World(NamedTuple):
    """Judgements of one kind.

    Attributes:
        photos: Q.
        of_user: Standard deviation between users, where that within photos is 1.
        of_product: The same between products.
        level: Mean of all users and products, on the same scale.
        skew: Exponent of the products' popularity.
    """

    photos: int
    users: int
    products: int
    of_user: float
    of_product: float
    level: float
    skew: float = 0.5

    @property
    def recall(self) -> float:
        """Over all users and products."""
        return float(ndtr(self.level / math.sqrt(1 + self.of_user**2 + self.of_product**2)))

    def judged(self, rng: np.random.Generator) -> tuple[npt.NDArray[np.float64], Ids, Ids]:
        """Which photos are right, their users and their products, each (Q,)."""
        popularity = np.arange(1.0, self.products + 1) ** -self.skew
        user_Q = rng.choice(self.users, self.photos)
        product_Q = rng.choice(self.products, self.photos, p=popularity / popularity.sum())
        skill_Q = self.level + rng.normal(0, self.of_user, self.users)[user_Q]
        skill_Q = skill_Q + rng.normal(0, self.of_product, self.products)[product_Q]
        return (rng.normal(size=self.photos) < skill_Q).astype(np.float64), user_Q, product_Q


WORLDS = {
    "photos are independent": World(300, 100, 60, 0, 0, 1),
    "products differ": World(300, 300, 30, 0, 1, 1, skew=1),
    "users differ": World(300, 30, 80, 1, 0.3, 0.5),
    "both differ": World(300, 60, 60, 0.7, 0.7, 1),
    "both differ, 1,000 photos": World(1000, 200, 80, 0.5, 0.5, 0.7, skew=1),
    "12 users, 12 products": World(60, 12, 12, 0.7, 0.7, 0.5, skew=0),
    "nearly all are right": World(60, 60, 20, 0, 1, 3),
    "nearly all are wrong": World(300, 100, 60, 0.5, 0.5, -2.5),
}


def intervals(
    right_Q: npt.NDArray[np.float64], user_Q: Ids, product_Q: Ids, seed: int
) -> dict[str, Estimate]:
    """By method."""
    [crossed] = mean_estimates(right_Q[:, None], [user_Q, product_Q], CONFIDENCE)
    resampled = {
        "bootstrap of users": mean_estimate(right_Q, user_Q, ROUNDS, CONFIDENCE, seed),
        "bootstrap of products": mean_estimate(right_Q, product_Q, ROUNDS, CONFIDENCE, seed),
    }
    wider = max(resampled.values(), key=lambda each: each.high - each.low)
    return {"IMMR": crossed, **resampled, "the wider of both": wider}


def main(
    runs: Annotated[int, typer.Option(help="Simulated sets of judgements in each world.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of the simulations.")] = 0,
    json_file: JsonFile = None,
) -> None:
    """Count how often each interval contains the recall."""
    found: dict[str, dict[str, float]] = {}
    for name, world in WORLDS.items():
        rng, covered = np.random.default_rng(seed), dict[str, int]()
        for run in range(runs):
            for method, estimate in intervals(*world.judged(rng), run).items():
                covered[method] = covered.get(method, 0) + (estimate.low <= world.recall <= estimate.high)
        found[name] = {method: count / runs for method, count in covered.items()}
    table = Table(
        "judgements", "recall", *next(iter(found.values())), title=f"Covered in {runs:,} simulations"
    )
    for name, shares in found.items():
        table.add_row(
            name, f"{WORLDS[name].recall:.3f}", *(f"{100 * share:.1f} %" for share in shares.values())
        )
    Console().print(table)
    write_figures(json_file, found)


if __name__ == "__main__":
    typer.run(main)
