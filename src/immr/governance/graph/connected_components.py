"""Connected components by joins alone, in few rounds: large-star and small-star.

After Kiveris et al., Connected Components in MapReduce and Beyond (2014). Each round replaces the edges by
others that join the same nodes in flatter trees, until every component is one star around its smallest node.
Labels that travel along edges need as many rounds as the longest path has edges; here about its logarithm.
"""

from __future__ import annotations

from typing import Any

from immr.governance.workspace import Workspace


def components(workspace: Workspace, items: Any, pairs: Any) -> Any:
    """Table (item_id, label): `label` is the smallest item_id that can be reached over pairs.

    Args:
        workspace: where the tables live.
        items: item_id of every node, alone or not.
        pairs: (a, b) with a < b.
    """
    import ibis

    stars = star_rounds(workspace, pairs)[0]
    found = items.select("item_id").left_join(stars, items.item_id == stars.node)
    return found.select("item_id", label=ibis.coalesce(found.centre, found.item_id))


def star_rounds(workspace: Workspace, pairs: Any) -> tuple[Any, int]:
    """Table (node, centre), one row for each node that has a smaller one in its component; and the rounds.

    Args:
        workspace: where the tables live.
        pairs: (a, b) with a < b.
    """
    edges = workspace.keep(pairs.select(node="b", centre="a").distinct())
    rounds = 0
    while not _are_stars(workspace, edges):
        edges = workspace.keep(_large_star(edges))
        edges = workspace.keep(_small_star(edges))
        rounds += 1
    return edges, rounds


def _large_star(edges: Any) -> Any:
    """Each node's larger neighbours go to the smallest of it and all its neighbours."""
    import ibis

    both_ways = edges.union(edges.select(node="centre", centre="node"))
    lowest = both_ways.group_by("node").aggregate(lowest=both_ways.centre.min())
    larger = both_ways.filter(both_ways.centre > both_ways.node).join(lowest, "node")
    return larger.select(node="centre", centre=ibis.least(larger.lowest, larger.node)).distinct()


def _small_star(edges: Any) -> Any:
    """Each node's smaller neighbours, and itself, go to the smallest of them."""
    lowest = edges.group_by("node").aggregate(lowest=edges.centre.min())
    joined = edges.join(lowest, "node")
    moved = joined.filter(joined.centre > joined.lowest).select(node="centre", centre="lowest")
    return moved.union(lowest.select(node="node", centre="lowest")).distinct()


def _are_stars(workspace: Workspace, edges: Any) -> bool:
    """Whether no node has two centres, and no centre has one."""
    nodes = edges.select("node").distinct()
    if workspace.rows(nodes) < workspace.rows(edges):
        return False
    return not workspace.rows(edges.select("centre").semi_join(nodes, edges.centre == nodes.node))
