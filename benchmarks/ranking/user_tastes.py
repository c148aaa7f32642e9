"""Users with tastes, which a ranker sees in their clicks alone.

A user and an item are hidden vectors. The item's is partly its brand's; the user likes the item by a saturating
function of their product. Users also differ in the price that they look for. The ranker has shares and distances
instead, so its model is not this one. In the world without tastes, all users want the same.

Shapes: Q queries, U users, N items, H hidden dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from benchmarks.ranking import simulated_shops
from benchmarks.ranking.simulated_shops import Asked, Shop

HIDDEN = 3
STRONG, WEAK = 3.0, 1.5  # limits of what a taste adds to the log-odds of relevance


@dataclass(frozen=True)
class Users:
    """Who searches."""

    price_U: np.ndarray  # logarithm of the price that they look for
    taste_UN: np.ndarray | None

    def ask(self, shop: Shop, rng: np.random.Generator, count: int) -> Asked:
        """Queries of these users."""
        asked = simulated_shops.ask(shop, rng, count, len(self.price_U))
        return replace(asked, price_Q=self.price_U[asked.user_Q], taste_UN=self.taste_UN)


def with_tastes(shop: Shop, rng: np.random.Generator, count: int, liking: float) -> Users:
    brands = {item.attributes["brand"] for item in shop.items}
    of_brand = {brand: rng.standard_normal(HIDDEN) for brand in sorted(map(str, brands))}
    item_NH = np.stack([of_brand[str(item.attributes["brand"])] for item in shop.items])
    item_NH = item_NH + 0.5 * rng.standard_normal(item_NH.shape)
    user_UH = rng.standard_normal((count, HIDDEN))
    taste_UN = liking * np.tanh(user_UH @ item_NH.T / np.sqrt(HIDDEN))
    return Users(rng.normal(3, 0.5, count), taste_UN.astype(np.float32))


def without_tastes(count: int) -> Users:
    return Users(np.full(count, 3.0), None)
