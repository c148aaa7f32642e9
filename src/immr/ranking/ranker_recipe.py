"""Settings for learning a ranker from a click log."""

from __future__ import annotations

from dataclasses import dataclass

from immr.errors import RecipeError
from immr.search.trees import MAX_LEAVES


@dataclass(frozen=True)
class RankerRecipe:
    """Settings of `immr rank`.

    Raises:
        RecipeError: a value is out of range.
    """

    max_queries: int = 100_000  # at most; the newest are used
    gate_users: float = 0.3  # share of users whose later queries decide whether the ranker is used
    stop_users: float = 0.2  # share of users whose later queries decide how many trees there are
    later_share: float = 0.3  # share of the queries, the last ones, that count as later
    max_weight: float = 10.0  # limit of a click's inverse propensity
    min_clicks: int = 300  # for training; a third as many for early stopping and for the gate
    max_propensity_error: float = 0.3  # standard error of the position bias in logarithms, mean over clicks
    personal: bool = False  # also learn from users' recent clicks, and store these as features
    correct_position: bool = True  # off: unweighted clicks, for comparison
    trees: int = 150
    patience: int = 20  # trees without improvement before training stops
    leaves: int = 15
    min_leaf_clicks: int = 50
    learning_rate: float = 0.1
    rounds: int = 2000  # of the bootstrap
    confidence: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low, high in _RANGES:
            if not low <= getattr(self, name) <= high:
                raise RecipeError(
                    f"RankerRecipe: {name} is {getattr(self, name)} and must be from {low:g} to {high:g}"
                )
        if self.gate_users + self.stop_users >= 1:
            raise RecipeError("RankerRecipe: gate_users and stop_users leave no users to train on")


_RANGES = (
    ("max_queries", 1, 1_000_000_000),
    ("gate_users", 0.01, 0.9),
    ("stop_users", 0.01, 0.9),
    ("later_share", 0.01, 0.9),
    ("max_weight", 1, 1000),
    ("min_clicks", 3, 1_000_000_000),
    ("max_propensity_error", 0.001, 10),
    ("trees", 1, 5000),
    ("patience", 1, 5000),
    ("leaves", 2, MAX_LEAVES),
    ("min_leaf_clicks", 1, 1_000_000),
    ("learning_rate", 0.001, 1),
    ("rounds", 1, 1_000_000),
    ("confidence", 0.01, 0.9999),
    ("seed", 0, 2**31 - 1),
)
