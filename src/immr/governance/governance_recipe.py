"""Which steps governance takes, and how strict they are."""

from __future__ import annotations

from dataclasses import dataclass

from immr.errors import RecipeError


@dataclass(frozen=True)
class GovernanceRecipe:
    """Every step has a switch, so that its effect can be measured.

    Raises:
        RecipeError: a value is out of range.
    """

    check_images: bool = True
    min_image_side_px: int = 32
    order_weight: float = 5.0  # an order counts as this many clicks
    # a query whose best item has a smaller share of its evidence is not settled by clicks
    min_share: float = 0.7
    group_items: bool = True
    # two items are one thing if shoppers click both more often than this
    min_co_click_lower_bound: float = 0.5
    clean_labels: bool = True  # compare each label with the photo's appearance; needs an embedder
    clean_folds: int = 5
    clean_rounds: int = 2  # from the second on, class centres are learned from what the round before believed
    # near copies are closer than this fraction of the typical distance within a class
    near_copy_reach: float = 0.3
    clean_ridge: float = 1.0  # × the mean variance of a feature, on the covariance's diagonal
    clean_keep: float = 0.5  # drop a label with a smaller probability
    clean_settle: float = 0.8  # where clicks disagree, a clicked class needs this probability
    clean_move: float = 0.95  # a class that was not clicked needs this probability
    balance_classes: bool = False
    max_photos_per_class: int = 1000  # those with the largest weights stay
    balance_power: float = 0.5  # a photo is weighed by (mean class size / its class's size)^power
    max_class_factor: float = 5.0  # but by no more than this
    unseen_class_share: float = 0.0  # share of classes, chosen by hash, that are kept out of training
    held_out_share: float = 0.1  # of photos or users, held out when the data bring no judgements
    held_out_gap_days: float = 1.0  # between training photos and held-out ones; 0: hold out users of all days
    # near a held-out photo: closer than this fraction of the typical distance in a class
    held_out_reach: float = 0.65
    held_out_near_share: float = 0.05  # most photos that may leave training for being near a held-out one

    def __post_init__(self) -> None:
        for name, low, high in _RANGES:
            if not low <= getattr(self, name) <= high:
                raise RecipeError(
                    f"GovernanceRecipe: {name} is {getattr(self, name)} and must be from {low:g} to {high:g}"
                )


_RANGES = (
    ("min_image_side_px", 1, 100_000),
    ("order_weight", 0, 1000),
    ("min_share", 0, 1),
    ("min_co_click_lower_bound", 0, 1),
    ("clean_folds", 2, 1000),
    ("clean_rounds", 1, 10),
    ("near_copy_reach", 0, 1),
    ("clean_ridge", 1e-6, 1e6),
    ("clean_keep", 0, 1),
    ("clean_settle", 0, 2),
    ("clean_move", 0, 2),
    ("max_photos_per_class", 1, 1_000_000_000),
    ("balance_power", 0, 1),
    ("max_class_factor", 1, 1_000_000),
    ("unseen_class_share", 0, 1),
    ("held_out_share", 0, 1),
    ("held_out_gap_days", 0, 3650),
    ("held_out_reach", 0, 1),
    ("held_out_near_share", 0, 1),
)
