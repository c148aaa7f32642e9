"""What governance does, and how strictly."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GovernanceRecipe:
    """Each step has its switch, so that its worth can be shown."""

    check_images: bool = True
    min_image_side_px: int = 32
    position_bias: float = 1.0  # η: a shopper looks at position p with probability p^-η
    max_click_weight: float = 2.0  # p^η is capped here: within one query, deep clicks are rare and loud
    order_weight: float = 5.0  # an order counts as this many clicks
    min_share: float = 0.7  # drop a query whose best item has a smaller share of its evidence
    min_share_lower_bound: float = 0.2  # and one with a weaker Wilson lower bound; one plain click has 0.207
    group_items: bool = True
    min_co_click_lower_bound: float = 0.5  # group two items whose shared clicks have a higher lower bound
    held_out_share: float = 0.1  # of users, newest queries, when the data bring no judgements
