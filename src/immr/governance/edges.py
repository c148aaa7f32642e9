"""From clicks to labels: which item does each query mean, and how sure is that? (ours, after known parts)

A click at position p is worth p^η, for it had to be seen first (inverse propensity weighting: Joachims,
Swaminathan, Schnabel, 2017); an order is worth several clicks.
"""

from __future__ import annotations

from typing import Any

from immr.governance.bounds import on_grid, wilson_lower
from immr.governance.governance_recipe import GovernanceRecipe

DISAGREE = "clicks do not agree on one item"


def edges(impressions: Any, recipe: GovernanceRecipe) -> Any:
    """Table (query_id, item_id, weight) of what was clicked."""
    import ibis

    clicks = impressions.filter(impressions.clicked)
    seen = ibis.least(clicks.position.cast("float64") ** recipe.position_bias, recipe.max_click_weight)
    worth = ibis.ifelse(clicks.ordered, recipe.order_weight, 1.0)
    return clicks.select("query_id", "item_id", weight=on_grid(seen * worth))


def best_items(edges: Any) -> Any:
    """Table (query_id, item_id, share, lower_bound, weight), one row per query: the item with most evidence.

    Items of one class are one thing, so their evidence counts together: `share` is the class's part of all
    the query's evidence and `lower_bound` Wilson's bound of it; the item is the class's strongest. `weight`
    is the share with one more observation that is half right (Laplace): how far training should trust it.

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
        lower_bound=wilson_lower(share, best.total),
        weight=on_grid((best.of_class + 0.5) / (best.total + 1)),
    )


def verdicts(queries: Any, best: Any, recipe: GovernanceRecipe) -> Any:
    """`queries` with their best item and `reason`: empty, or why no label can be drawn from them."""
    import ibis

    joined = queries.left_join(best, "query_id").drop("query_id_right")
    reason = ibis.cases(
        (joined.item_id.isnull(), "no click on a valid item"),
        (joined.share < recipe.min_share, DISAGREE),
        (joined.lower_bound < recipe.min_share_lower_bound, "too little evidence"),
        else_="",
    )
    return joined.mutate(reason=reason)
