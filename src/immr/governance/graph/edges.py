"""From clicks to labels: which item does each query mean, and how much do its clicks agree? (ours)

Within one query all clicks count the same, wherever they were in the list: an item that was clicked was
seen. (Weights by inverse propensity correct for items that were never seen; between clicks of one query
they only favour deep positions.) An order counts as several clicks.
"""

from __future__ import annotations

from typing import Any

from immr.governance.engines.rounding import on_grid
from immr.governance.governance_recipe import GovernanceRecipe

DISAGREE = "clicks disagree about the item"


def edges(impressions: Any, recipe: GovernanceRecipe) -> Any:
    """Table (query_id, item_id, weight): the clicks that count, and how much."""
    import ibis

    clicks = impressions.filter(impressions.clicked)
    worth = ibis.ifelse(clicks.ordered, recipe.order_weight, 1.0)
    found = clicks.select("query_id", "item_id", weight=on_grid(worth))
    return found.filter(found.weight > 0)


def best_items(edges: Any) -> Any:
    """Table (query_id, item_id, share, weight), one row per query: the item with the most evidence.

    Items of one class are one thing, so their evidence is added up: `share` is the class's part of the
    query's evidence, and the item is the class's strongest. `weight` tells training how far to trust the
    label: the share with one more observation that is half right (Laplace smoothing).

    Args:
        edges: query_id, item_id, weight and class_id.
    """
    import ibis

    per_query = ibis.window(group_by=edges.query_id)
    per_class = ibis.window(group_by=[edges.query_id, edges.class_id])
    summed = edges.mutate(
        total=edges.weight.sum().over(per_query), of_class=edges.weight.sum().over(per_class)
    )
    best_first = ibis.window(
        group_by=summed.query_id,
        order_by=[summed.of_class.desc(), summed.weight.desc(), summed.item_id],
    )
    ranked = summed.mutate(rank=ibis.row_number().over(best_first))
    best = ranked.filter(ranked["rank"] == 0)
    share = on_grid(best.of_class / best.total)
    return best.select(
        "query_id",
        "item_id",
        share=share,
        weight=on_grid((best.of_class + 0.5) / (best.total + 1)),
    )


def verdicts(queries: Any, best: Any, recipe: GovernanceRecipe) -> Any:
    """`queries` with their best item and `reason`: empty, or why they yield no label."""
    import ibis

    joined = queries.left_join(best, "query_id").drop("query_id_right")
    reason = ibis.cases(
        (joined.item_id.isnull(), "no click on a valid item"),
        (joined.share < recipe.min_share, DISAGREE),
        else_="",
    )
    return joined.mutate(reason=reason)
