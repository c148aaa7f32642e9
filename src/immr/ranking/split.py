"""Splits a log's queries: for training a ranker, for early stopping, and for the gate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from immr.ranking.click_log import Bools, ClickLog
from immr.ranking.ranker_recipe import RankerRecipe


@dataclass(frozen=True)
class Split:
    """(Q,) each; no two share a user."""

    train_Q: Bools
    stop_Q: Bools
    gate_Q: Bools

    def within(self, kept_Q: Bools) -> Split:
        """The same split of some of the queries."""
        return Split(self.train_Q & kept_Q, self.stop_Q & kept_Q, self.gate_Q & kept_Q)

    def lacks(self, log: ClickLog, recipe: RankerRecipe) -> str:
        """Which part has too few clicks; empty if all have enough."""
        parts = {"train": self.train_Q, "stop": self.stop_Q, "gate": self.gate_Q}
        for name, queries in parts.items():
            clicks = int((log.clicked_R & queries[log.query_R]).sum())
            least = recipe.min_clicks if name == "train" else recipe.min_clicks // 3
            if clicks < least:
                return f"{clicks} remain to {name} (needed: {least})"
        return ""


def split(log: ClickLog, recipe: RankerRecipe) -> Split:
    """Split by time and by user; earlier queries of `stop` and `gate` users and later ones of the rest are unused."""
    later_Q = log.time_Q > np.quantile(log.time_Q, 1 - recipe.later_share)
    users = by_user(log, recipe)
    return Split(users.train_Q & ~later_Q, users.stop_Q & later_Q, users.gate_Q & later_Q)


def by_user(log: ClickLog, recipe: RankerRecipe) -> Split:
    """The same users with all their queries: for what depends on a user's own past alone."""
    users, user_Q = np.unique(log.user_Q, return_inverse=True)
    draw_Q = np.random.default_rng(recipe.seed).random(len(users))[user_Q]
    gate_Q = draw_Q < recipe.gate_users
    stop_Q = ~gate_Q & (draw_Q < recipe.gate_users + recipe.stop_users)
    return Split(train_Q=~gate_Q & ~stop_Q, stop_Q=stop_Q, gate_Q=gate_Q)
