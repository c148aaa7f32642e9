"""Items that are the same thing become one class: components of the co-click graph in a category. (ours)"""

from __future__ import annotations

from typing import Any

from immr.governance.bounds import wilson_lower
from immr.governance.recipe import GovernanceRecipe
from immr.governance.workspace import Workspace


def same_things(items: Any, impressions: Any, recipe: GovernanceRecipe) -> Any:
    """Table (a, b) with a < b: pairs of one category that shoppers click together more often than not.

    Of the queries that showed both and in which at least one was clicked, the share in which both were must
    have a Wilson lower bound above the recipe's.
    """
    import ibis

    shown = impressions.join(items.select("item_id", "category"), "item_id").select(
        "query_id", "item_id", "category", "clicked"
    )
    left = shown.rename(a="item_id", a_clicked="clicked")
    right = shown.rename(b="item_id", b_clicked="clicked")
    together = left.join(right, ["query_id", "category"]).filter(lambda pair: pair.a < pair.b)
    together = together.filter(together.a_clicked | together.b_clicked)
    pairs = together.group_by(["a", "b"]).aggregate(
        both=(together.a_clicked & together.b_clicked).cast("int64").sum(),
        either=ibis._.count(),
    )
    either = pairs.either.cast("float64")
    bound = wilson_lower(pairs.both / either, either)
    return pairs.filter((pairs.both > 0) & (bound > recipe.min_co_click_lower_bound)).select("a", "b")


def components(workspace: Workspace, items: Any, pairs: Any) -> Any:
    """Table (item_id, label): `label` is the smallest item_id that can be reached over pairs.

    Labels travel to neighbours, then jump to their label's label, so that few rounds are enough even for long
    chains; plain joins, the same on every engine.
    """
    import ibis

    pairs = workspace.keep(pairs)
    labels = workspace.keep(items.select("item_id", label=items.item_id))
    if not workspace.rows(pairs):
        return labels
    both_ways = workspace.keep(pairs.union(pairs.select(a=pairs.b, b=pairs.a)))
    while True:
        heard = both_ways.join(labels, both_ways.b == labels.item_id)
        heard = heard.group_by("a").aggregate(heard=heard.label.min())
        lowered = labels.left_join(heard, labels.item_id == heard.a)
        lowered = workspace.keep(
            lowered.select(
                "item_id", label=ibis.least(lowered.label, ibis.coalesce(lowered.heard, lowered.label))
            )
        )
        target = lowered.select(label=lowered.item_id, jumped=lowered.label)
        jumped = workspace.keep(lowered.join(target, "label").select("item_id", label="jumped"))
        before = labels.select("item_id", before="label")
        changed = jumped.join(before, "item_id").filter(lambda row: row.label != row.before)
        labels = jumped
        if not workspace.rows(changed):
            return labels


def numbered(labels: Any) -> Any:
    """Table (item_id, class_id): components numbered from 0 in the order of their smallest item_id."""
    import ibis

    rank = ibis.dense_rank().over(ibis.window(order_by=labels.label))
    return labels.select("item_id", class_id=rank.cast("int64"))
