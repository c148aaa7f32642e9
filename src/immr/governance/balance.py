"""Balances large and small classes: caps the photos of a class and weights the remaining ones.

A photo's weight is multiplied by (mean class size / size of its class)^power: at power 1 all classes have the
same total weight, at power 0 all photos have the same weight. Powers in between follow Mikolov et al. (2013)
and Joulin et al. (2016).
"""

from __future__ import annotations

from typing import Any

from immr.governance.engines.rounding import on_grid
from immr.governance.governance_recipe import GovernanceRecipe
from immr.governance.workspace import Workspace

ENOUGH = "its class has enough photos"


def balanced(workspace: Workspace, queries: Any, recipe: GovernanceRecipe) -> Any:
    """`queries` with a `reason` (empty or ENOUGH), and `weight` multiplied by the factor of its class.

    Args:
        workspace: where the tables live.
        queries: query_id, class_id, weight.
        recipe: cap, power, and the largest factor.
    """
    import ibis

    order = [queries.weight.desc(), queries.query_id.hexdigest("md5"), queries.query_id]
    place = ibis.row_number().over(ibis.window(group_by=queries.class_id, order_by=order))
    size = ibis.least(queries.query_id.count().over(group_by=queries.class_id), recipe.max_photos_per_class)
    placed = workspace.keep(queries.mutate(place=place, size=size))
    kept = placed.filter(placed.place < recipe.max_photos_per_class)
    mean_size = workspace.rows(kept) / max(workspace.rows(kept.select("class_id").distinct()), 1)
    factor = (mean_size / placed["size"].cast("float64")) ** recipe.balance_power
    return placed.mutate(
        reason=ibis.ifelse(placed.place < recipe.max_photos_per_class, "", ENOUGH),
        weight=on_grid(placed.weight * ibis.least(factor, recipe.max_class_factor)),
    ).drop("place", "size")
