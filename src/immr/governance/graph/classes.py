"""Items that are the same thing become one class: components of the co-click graph in a category. (ours)"""

from __future__ import annotations

from typing import Any

from immr.governance.engines.rounding import on_grid
from immr.governance.governance_recipe import GovernanceRecipe
from immr.governance.graph.connected_components import components
from immr.governance.workspace import Workspace

_Z = 1.959964  # 97.5 % quantile of the normal distribution
_SHARED_ID = 0.1  # an id with more of the queries is a shared device, or all who have not signed in
_MANY_CLICKS = 5  # fewer may be all offers of one product on a short page


def classes(
    workspace: Workspace, items: Any, impressions: Any, queries: Any, recipe: GovernanceRecipe
) -> Any:
    """Table (item_id, class_id): each item's class, numbered from 0 in the order of their smallest item_id.

    Args:
        workspace: where the tables live.
        items: item_id, category.
        impressions: query_id, item_id, clicked.
        queries: query_id, user_id, ts.
        recipe: whether to group at all, and how sure one has to be.
    """
    if not recipe.group_items:
        return numbered(items.select("item_id", label="item_id"))
    return numbered(components(workspace, items, same_things(workspace, items, impressions, queries, recipe)))


def same_things(
    workspace: Workspace, items: Any, impressions: Any, queries: Any, recipe: GovernanceRecipe
) -> Any:
    """Table (a, b) with a < b: pairs of one category that shoppers click together more often than not.

    Of the queries that showed both and in which at least one was clicked, the share in which both were must
    have a Wilson lower bound above the recipe's. Each user counts once, with the mean of their queries: a reseller
    who always clicks two things would otherwise make them one. Pairs are sought among clicks; only those that would
    pass if they had always been clicked together are looked up in all that was shown, which is far more.

    Queries with clicks on most of what they showed are left out: a crawler that follows every link clicks all pairs
    together, and would join a category into one class. Random clicks on a share s of what is shown have both items of
    a pair in s / (2 − s) of the queries with either: at most half, the default bound, for s up to two thirds.
    """
    impressions = impressions.anti_join(_all_clicked(workspace, impressions), "query_id")
    together = workspace.keep(_clicked_together(items, impressions, recipe))
    if not workspace.rows(together):
        return together.select("a", "b")
    shown = impressions.select("query_id", "item_id", "clicked")
    left = shown.join(together, shown.item_id == together.a).select("query_id", "a", "b", a_clicked="clicked")
    right = shown.select(query_id="query_id", b="item_id", b_clicked="clicked")
    met = left.join(right, ["query_id", "b"])
    met = met.filter(met.a_clicked | met.b_clicked)
    met = met.join(_shoppers(workspace, queries), "query_id")
    by_shopper = met.group_by(["a", "b", "user_id", "day"]).aggregate(
        both=on_grid((met.a_clicked & met.b_clicked).cast("float64").mean())
    )
    pairs = by_shopper.group_by(["a", "b"]).aggregate(both=by_shopper.both.sum(), either=by_shopper.count())
    either = pairs.either.cast("float64")
    bound = _wilson_lower(pairs.both / either, either)
    return pairs.filter(bound > recipe.min_co_click_lower_bound).select("a", "b")


def _shoppers(workspace: Workspace, queries: Any) -> Any:
    """Table (query_id, user_id, day): who searched. An id of too many queries stands for another shopper each day."""
    import ibis

    most = _SHARED_ID * workspace.rows(queries)
    size = queries.query_id.count().over(group_by=queries.user_id)
    day = (queries.ts.epoch_seconds() / 86_400).floor().cast("int64")
    return queries.select("query_id", "user_id", day=ibis.ifelse(size > most, day, 0))


def _all_clicked(workspace: Workspace, impressions: Any) -> Any:
    """Table (query_id): queries with `_MANY_CLICKS` or more, on more than two thirds of what they showed."""
    clicks = impressions.filter(impressions.clicked)
    many = clicks.group_by("query_id").aggregate(clicks=clicks.count())
    many = workspace.keep(many.filter(many.clicks >= _MANY_CLICKS))
    shown = impressions.semi_join(many, "query_id")
    both = shown.group_by("query_id").aggregate(shown=shown.count()).join(many, "query_id")
    return workspace.keep(both.filter(3 * both.clicks > 2 * both.shown).select("query_id"))


def _clicked_together(items: Any, impressions: Any, recipe: GovernanceRecipe) -> Any:
    """Table (a, b): pairs of one category clicked in one query often enough to be one thing at best."""
    clicks = impressions.filter(impressions.clicked).select("query_id", "item_id")
    clicks = clicks.join(items.select("item_id", "category"), "item_id")
    left = clicks.select("query_id", "category", a="item_id")
    right = clicks.select("query_id", "category", b="item_id")
    pairs = left.join(right, ["query_id", "category"]).filter(lambda pair: pair.a < pair.b)
    pairs = pairs.group_by(["a", "b"]).aggregate(both=pairs.count())
    at_best = _wilson_lower(1.0, pairs.both.cast("float64"))
    return pairs.filter(at_best > recipe.min_co_click_lower_bound).select("a", "b")


def _wilson_lower(share: Any, count: Any) -> Any:
    """Lower end of the 95 % score interval (Wilson, 1927) of a share of `count` observations."""
    middle = share + _Z * _Z / (2 * count)
    spread = _Z * ((share * (1 - share) + _Z * _Z / (4 * count)) / count).sqrt()
    return on_grid((middle - spread) / (1 + _Z * _Z / count))


def numbered(labels: Any) -> Any:
    """Table (item_id, class_id): components numbered from 0 in the order of their smallest item_id."""
    import ibis

    rank = ibis.dense_rank().over(ibis.window(order_by=labels.label))
    return labels.select("item_id", class_id=rank.cast("int64"))
