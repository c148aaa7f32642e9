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
    clean_labels: bool = True  # judge each label by looks; needs embeddings
    clean_folds: int = 5
    clean_rounds: int = 1  # each further round trusts a label as far as the one before believed it
    clean_sub_centres: int = 1  # per class
    clean_min_sub_centre_share: float = 0.2  # of its class's photos; a smaller one is taken for noise
    clean_ridge: float = 1.0  # × the mean variance of a feature, on the diagonal
    clean_keep: float = 0.5  # drop a label with a smaller probability
    clean_settle: float = 0.8  # where clicks disagree, the clicked class must have this
    clean_move: float = 0.95  # move to a class that nobody clicked from here on
    balance_classes: bool = False  # off: the demo's classes are alike
    max_photos_per_class: int = 1000  # the surest stay
    balance_power: float = 0.5  # a photo counts (mean size / its class's size)^power
    max_class_factor: float = 5.0  # but no more than this
    unseen_class_share: float = 0.0  # of classes, by hash: none of their photos is learned from
    held_out_share: float = 0.1  # of users, newest queries, when the data bring no judgements
