from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from immr.governance.governance_recipe import GovernanceRecipe
from immr.governance.graph.classes import classes, numbered, same_things
from immr.governance.graph.connected_components import components
from immr.governance.workspace import Workspace

START = datetime(2025, 1, 1, 12, tzinfo=UTC)
Rows = list[dict[str, Any]]
Table = Callable[[Rows], Any]


def items(table: Table, **categories: str) -> Any:
    return table([{"item_id": name, "category": category} for name, category in categories.items()])


def shown(query: str, **clicked: bool) -> Rows:
    return [{"query_id": query, "item_id": name, "clicked": click} for name, click in clicked.items()]


def asked(table: Table, log: Rows, **users: str) -> Any:
    """The queries of a log, a day apart; each by a user of its own, or by the one given for its first letter."""
    queries = list(dict.fromkeys(row["query_id"] for row in log))
    return table(
        [
            {"query_id": query, "user_id": users.get(query[0], query), "ts": START + day * timedelta(days=1)}
            for day, query in enumerate(queries)
        ]
    )


def classes_of(workspace: Workspace, catalogue: Any, pairs: Any) -> dict[str, int]:
    rows = workspace.fetch(numbered(components(workspace, catalogue, pairs)), ["item_id"])
    return {row["item_id"]: row["class_id"] for row in rows}


def test_items_clicked_together_are_one_class_but_never_across_categories(
    workspace: Workspace, table: Table
) -> None:
    catalogue = items(table, a="Tea", b="Tea", c="Tea", d="Milk")
    log = [row for n in range(8) for row in shown(f"q{n}", a=True, b=True, c=n == 0, d=True)]
    pairs = same_things(workspace, catalogue, table(log), asked(table, log), GovernanceRecipe())
    assert workspace.fetch(pairs, ["a"]) == [{"a": "a", "b": "b"}]
    assert classes_of(workspace, catalogue, pairs) == {"a": 0, "b": 0, "c": 1, "d": 2}


def test_a_few_chance_co_clicks_do_not_merge_items(workspace: Workspace, table: Table) -> None:
    catalogue = items(table, a="Tea", b="Tea")
    log = [row for n in range(3) for row in shown(f"q{n}", a=True, b=True)]
    assert not workspace.rows(
        same_things(workspace, catalogue, table(log), asked(table, log), GovernanceRecipe())
    )
    log += [row for n in range(3, 30) for row in shown(f"q{n}", a=n % 2 == 0, b=n % 2 == 1)]
    assert not workspace.rows(
        same_things(workspace, catalogue, table(log), asked(table, log), GovernanceRecipe())
    )


def test_a_crawler_that_clicks_everything_joins_nothing(workspace: Workspace, table: Table) -> None:
    catalogue = items(table, a="Tea", b="Tea", c="Tea", d="Tea", e="Tea", f="Tea")
    crawl = [row for n in range(40) for row in shown(f"crawl{n}", a=True, b=True, c=True, d=True, e=True)]
    choose = [row for n in range(8) for row in shown(f"q{n}", a=True, b=True, c=False, d=False)]
    many = [
        row
        for n in range(8)
        for row in shown(f"m{n}", c=True, d=True)
        + [{"query_id": f"m{n}", "item_id": f"x{place}", "clicked": place < 3} for place in range(10)]
    ]
    log = crawl + choose + many
    pairs = same_things(workspace, catalogue, table(log), asked(table, log), GovernanceRecipe())
    assert workspace.fetch(pairs, ["a"]) == [{"a": "a", "b": "b"}, {"a": "c", "b": "d"}]


def test_shoppers_who_compare_all_offers_of_a_product_join_them(workspace: Workspace, table: Table) -> None:
    catalogue = items(table, a="Tea", b="Tea", c="Tea", d="Tea", e="Tea", f="Tea", g="Tea", h="Tea", i="Tea")
    offers, others = dict.fromkeys("abcdef", True), dict.fromkeys("ghi", False)
    log = [row for n in range(8) for row in shown(f"q{n}", **offers, **others)]
    pairs = same_things(workspace, catalogue, table(log), asked(table, log), GovernanceRecipe())
    assert classes_of(workspace, catalogue, pairs) == dict.fromkeys("abcdef", 0) | {"g": 1, "h": 2, "i": 3}


def test_each_user_counts_once_however_many_their_queries(workspace: Workspace, table: Table) -> None:
    """One reseller who always clicked two things made them one."""
    catalogue = items(table, a="Tea", b="Tea", c="Tea", d="Tea")
    others = [row for n in range(60) for row in shown(f"o{n}", a=n % 10 == 0, b=n % 10 == 1, c=True, d=True)]
    log = others + [row for n in range(6) for row in shown(f"reseller{n}", a=True, b=True)]
    recipe = GovernanceRecipe(min_co_click_lower_bound=0.1)
    pairs = same_things(workspace, catalogue, table(log), asked(table, log), recipe)
    assert workspace.fetch(pairs, ["a"]) == [{"a": "a", "b": "b"}, {"a": "c", "b": "d"}]
    pairs = same_things(workspace, catalogue, table(log), asked(table, log, r="reseller"), recipe)
    assert workspace.fetch(pairs, ["a"]) == [{"a": "c", "b": "d"}]


def test_an_id_of_all_shoppers_counts_once_a_day(workspace: Workspace, table: Table) -> None:
    catalogue = items(table, a="Tea", b="Tea")
    log = [row for n in range(8) for row in shown(f"q{n}", a=True, b=True)]
    pairs = same_things(workspace, catalogue, table(log), asked(table, log, q="guest"), GovernanceRecipe())
    assert workspace.fetch(pairs, ["a"]) == [{"a": "a", "b": "b"}]


def test_an_item_that_nobody_saw_is_a_class_of_its_own(workspace: Workspace, table: Table) -> None:
    catalogue, log = items(table, a="Tea", b="Tea"), shown("q", a=True)
    numbers = classes(workspace, catalogue, table(log), asked(table, log), GovernanceRecipe())
    found = workspace.fetch(numbers, ["item_id"])
    assert {row["item_id"]: row["class_id"] for row in found} == {"a": 0, "b": 1}
