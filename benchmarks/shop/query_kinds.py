"""What each kind of query costs through the gateway, in a shop that `benchmarks.shop` has kept.

    python -m benchmarks.shop --items 20000 --queries 30000 --impressions 2000000 --folder shops
    python -m benchmarks.shop.query_kinds shops/20000-items --json kinds.json

The kinds take turns, so that all see the same load of the machine. `…_over_photo` is a multiple of a photo search.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow.parquet as pq
import typer

from benchmarks.figures import JsonFile, write_figures
from benchmarks.shop.serving import Service

SEED = 1
WARM_UP = 5  # rounds that are not counted

Search = Callable[[], dict[str, Any]]
Prepared = Callable[[int], Search]


def main(
    place: Annotated[Path, typer.Argument(help="A folder with `shop` and `home`.")],
    rounds: Annotated[int, typer.Option(help="Searches of each kind.")] = 60,
    json_file: JsonFile = None,
) -> None:
    """Measure, and print the figures."""
    service = Service(place / "shop", {"IMMR_HOME": str(place / "home")}, place)
    with service.running():
        ms = _measured(_kinds(service, place / "shop"), rounds)
    p50 = {kind: float(np.median(each)) for kind, each in ms.items()}
    result = {
        **{f"{kind}_p50_ms": round(each, 2) for kind, each in p50.items()},
        **{f"{kind}_p95_ms": round(float(np.quantile(each, 0.95)), 2) for kind, each in ms.items()},
        **{f"{kind}_over_photo": round(each / p50["photo"], 3) for kind, each in p50.items()},
    }
    text = json.dumps(result, indent=1)
    print(text)
    write_figures(json_file, result)


def _kinds(service: Service, shop: Path) -> dict[str, Prepared]:
    """Each kind of query, for the photo and the item of a number."""
    items = pq.read_table(shop / "items.parquet", columns=["item_id", "title", "category"]).to_pylist()
    photos = sorted((shop / "photos").iterdir())
    rng = np.random.default_rng(SEED)
    order, order_of_items = rng.permutation(len(photos)), rng.permutation(len(items))

    def photo(number: int) -> bytes:
        return photos[order[number]].read_bytes()

    def item(number: int) -> dict[str, str]:
        found: dict[str, str] = items[order_of_items[number]]
        return found

    def words(number: int) -> str:
        return item(number)["title"].rsplit(" ", 1)[0]  # without its number: many items have these words

    def by_photo(of_item: Callable[[int], dict[str, str]] = lambda _: {}, **fields: str) -> Prepared:
        return lambda number: partial(service.answer, {"k": "10", **fields, **of_item(number)}, photo(number))

    def by_item(of_item: Callable[[int], dict[str, str]]) -> Prepared:
        return lambda number: partial(service.answer, {"k": "10", **of_item(number)})

    def second_page(number: int) -> Search:
        return partial(service.answer, {"page": service.answer({"k": "10"}, photo(number))["next_page"]})

    return {
        "photo": by_photo(),
        "next_page": second_page,
        "box": by_photo(box="0.1,0.1,0.8,0.8"),
        "text": by_item(lambda number: {"text": words(number)}),
        "title": by_item(lambda number: {"text": item(number)["title"]}),
        "photo_text": by_photo(lambda number: {"text": words(number)}),
        "price_filter": by_photo(filter="price:10..30"),
        "category_filter": by_photo(lambda number: {"filter": f"category:{item(number)['category']}"}),
        "facets": by_photo(facets="category,price"),
        "grouped": by_photo(group_by="category"),
        "similar": by_item(lambda number: {"item_id": item(number)["item_id"]}),
    }


def _measured(kinds: dict[str, Prepared], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each search; no two have the same photo or item, whose payloads would be in memory."""
    ms: dict[str, list[float]] = {kind: [] for kind in kinds}
    for turn in range(WARM_UP + rounds):
        for number, (kind, prepared) in enumerate(kinds.items()):
            search = prepared(turn * len(kinds) + number)
            began = time.perf_counter()
            answer = search()
            ms[kind].append(1e3 * (time.perf_counter() - began))
            assert answer["hits"], f"{kind} found nothing"
    return {kind: each[WARM_UP:] for kind, each in ms.items()}


if __name__ == "__main__":
    typer.run(main)
