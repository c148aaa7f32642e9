"""The size of a simulated click log, and how its shoppers behave."""

from __future__ import annotations

from dataclasses import dataclass

from immr.errors import RecipeError


@dataclass(frozen=True)
class SimulationRecipe:
    """Shares and rates are probabilities, 0 … 1.

    Raises:
        RecipeError: a value is out of range.
    """

    seed: int = 0
    users: int = 400
    queries_per_photo: float = 1.0  # above 1, further queries go to photos of popular items
    shown: int = 8  # items in a list
    present: float = 0.98  # probability that the right item is in the list
    search_quality: float = 1.0  # how many standard deviations the right item scores above others
    within_category_share: float = 0.5  # of the other items in the list, from the right item's category
    popularity_skew: float = 1.0  # Zipf exponent: the item of rank r is shown ∝ r^-skew
    position_bias: float = 1.0  # η
    relevant_click: float = 0.9  # probability that the right item is clicked once seen
    wrong_clicks: float = 0.1  # share of clicks that go to a wrong item
    wrong_in_category: bool = False  # wrong clicks stay in the right item's category: harder to detect
    twin_items: float = 0.0  # share of items that the catalogue offers twice
    compared: float = 0.8  # probability of clicking both offers if both are shown
    scans: int = 12  # times that a shopper scans the list before giving up
    second_look: float = 0.3  # probability of one more scan after clicking the right item
    return_rate: float = 0.7  # probability of scanning on to another click after clicking only wrong items
    order_rate: float = 0.35  # orders per click on the right item; a tenth of that on a wrong one
    days: int = 28
    broken_rows: int = 0  # invalid rows per table; also as many unreadable photos, at most three

    def __post_init__(self) -> None:
        counts = self.shown, self.users, self.queries_per_photo
        shares = 0 <= self.wrong_clicks < 1 and 0 <= self.twin_items <= 1
        if min(counts) < 1 or self.seed < 0 or not shares:
            raise RecipeError(
                "a simulation needs shown, users and queries_per_photo of at least 1, a seed of at least 0, "
                f"wrong_clicks from 0 to below 1 and twin_items from 0 to 1, not {self}"
            )


def symmetric_noise(wrong_clicks: float) -> SimulationRecipe:
    """Wrong clicks are spread evenly: the rest of each list is drawn uniformly from the catalogue."""
    return SimulationRecipe(wrong_clicks=wrong_clicks, within_category_share=0.0, popularity_skew=0.0)


def category_noise(wrong_clicks: float) -> SimulationRecipe:
    """Wrong clicks stay in the right item's category, whose items look alike: harder to detect."""
    return SimulationRecipe(wrong_clicks=wrong_clicks, wrong_in_category=True, within_category_share=1.0)
