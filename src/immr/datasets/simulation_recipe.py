"""How the shoppers of a simulated click log behave, and how much of it there is."""

from __future__ import annotations

from dataclasses import dataclass

from immr.errors import RecipeError


@dataclass(frozen=True)
class SimulationRecipe:
    """Shares and rates are probabilities, 0 … 1.

    Raises:
        RecipeError: values that no log can be made from.
    """

    seed: int = 0
    users: int = 400
    queries_per_photo: float = 1.0  # above 1, further queries go to photos of popular items
    shown: int = 8  # items in a list
    present: float = 0.98  # how often the right item is in the list
    search_quality: float = 1.0  # how many standard deviations the right item scores above others
    within_category_share: float = 0.5  # of the other items, those from the right one's category
    popularity_skew: float = 1.0  # Zipf exponent: the item of rank r is shown ∝ r^-skew
    position_bias: float = 1.0  # η
    relevant_click: float = 0.9  # the right item is clicked when seen
    wrong_clicks: float = 0.1  # share of clicks that go to a wrong item
    wrong_in_category: bool = False  # only to one of the right one's category: harder to tell
    twin_items: float = 0.0  # share of items with a second offer of the same thing in the catalogue
    compared: float = 0.8  # a shopper who clicked one of two offers that were shown clicks the other
    looks: int = 12  # how many times a shopper goes over the list before giving up
    second_look: float = 0.3  # a shopper who clicked the right item goes over the list once more
    return_rate: float = 0.7  # a shopper who clicked only wrong items returns and continues to the next click
    order_rate: float = 0.35  # of clicks on the right item; a wrong one is ordered a tenth as often
    days: int = 28
    broken_rows: int = 0  # rows that break the contract, and as many broken or missing photos up to three

    def __post_init__(self) -> None:
        counts = self.shown, self.users, self.queries_per_photo
        shares = 0 <= self.wrong_clicks < 1 and 0 <= self.twin_items <= 1
        if min(counts) < 1 or self.seed < 0 or not shares:
            raise RecipeError(
                "a simulation needs shown, users and queries_per_photo of at least 1, a seed of at least 0, "
                f"wrong_clicks and twin_items in 0 … 1, not {self}"
            )


def symmetric_noise(wrong_clicks: float) -> SimulationRecipe:
    """Wrong clicks go to any other item alike: lists are filled evenly from the whole catalogue."""
    return SimulationRecipe(wrong_clicks=wrong_clicks, within_category_share=0.0, popularity_skew=0.0)


def category_noise(wrong_clicks: float) -> SimulationRecipe:
    """Wrong clicks go to the right item's neighbours only: they look alike, and are harder to find."""
    return SimulationRecipe(wrong_clicks=wrong_clicks, wrong_in_category=True, within_category_share=1.0)
