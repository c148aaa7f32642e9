"""Adds defects that real exports contain: rows that violate the data contract, and unreadable photos."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from immr.data.contract import IMPRESSIONS, ITEMS, QUERIES


def with_broken_rows(tables: dict[str, pa.Table], rows: int, aside: Path, out: Path) -> dict[str, pa.Table]:
    """The tables with `rows` invalid rows appended to each, and queries whose photo cannot be read."""
    items, queries = tables["items"].to_pylist(), tables["queries"].to_pylist()
    impressions = tables["impressions"].to_pylist()[: 2 * rows]
    broken: dict[str, list[dict[str, object]]] = {"items": [], "queries": [], "impressions": []}
    for number in range(rows):
        item, query = items[number % len(items)], queries[number % len(queries)]
        impression = impressions[number % len(impressions)]
        broken["items"].append(
            [
                item,
                {**item, "item_id": f"bad-{number}", "price": -1.0},
                {**item, "item_id": f"untitled-{number}", "title": None},
            ][number % 3]
        )
        broken["queries"].append([query, {**query, "query_id": f"bad-{number}", "user_id": None}][number % 2])
        broken["impressions"].append(
            [
                {**impression, "position": 0},
                {**impression, "item_id": "no-such-item"},
                {**impression, "query_id": "no-such-query"},
                {**impression, "clicked": False, "ordered": True},
            ][number % 4]
        )
    broken["queries"] += _broken_photos(queries[0], min(rows, 3), aside, out)
    schemas = {"items": ITEMS, "queries": QUERIES, "impressions": IMPRESSIONS}
    return {
        name: pa.concat_tables([table, pa.Table.from_pylist(broken[name], schemas[name].columns)])
        if name in broken
        else table
        for name, table in tables.items()
    }


def _broken_photos(query: dict[str, object], count: int, aside: Path, out: Path) -> list[dict[str, object]]:
    """Queries that meet the contract, but whose photo is truncated, not a picture, or missing."""
    (aside / "broken").mkdir()
    (aside / "broken" / "cut.jpg").write_bytes(Path(str(query["image"])).read_bytes()[:1500])
    (aside / "broken" / "text.jpg").write_text("not a photo")
    return [
        {**query, "query_id": f"broken-{name}", "image": str(out / "broken" / f"{name}.jpg")}
        for name in ("cut", "text", "gone")[:count]
    ]
