"""A click log with known truth, out of any labelled set. (ours)

A former, mediocre search shows each shopper a list. The shopper looks at position p with probability p^-η
(the position-based model of Craswell et al., 2008), clicks the item that is in the photo when it is seen, and
now and then another one. One who clicked nothing looks again; one who clicked a wrong item may come back.
Where a thing has two offers, one who clicked the first may compare it with the second.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from immr.data.contract import IMPRESSIONS, ITEMS, JUDGEMENTS, QUERIES
from immr.data.datasets import LabelledSet, Photo
from immr.errors import RecipeError
from immr.files import folder_replaced
from immr.types import Item

LOG_END = datetime(2026, 1, 1, tzinfo=UTC)

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class SimulationRecipe:
    """Shares and rates are probabilities, 0 … 1."""

    seed: int = 0
    users: int = 400
    queries_per_photo: float = 1.0  # above 1, further queries go to photos of popular items
    shown: int = 8  # items in a list
    present: float = 0.98  # how often the right item is in the list
    search_quality: float = 1.0  # how many standard deviations the right item scores above others
    within_category_share: float = 0.5  # of the other items, those from the right one's category
    popularity_skew: float = 1.0  # Zipf exponent: the item of rank r is shown ∝ r^-skew
    position_bias: float = 1.0  # η
    relevant_click: float = 0.9  # the right item is clicked when seen
    wrong_clicks: float = 0.1  # share of clicks that go to a wrong item
    wrong_in_category: bool = False  # only to one of the right one's category: harder to tell
    twin_items: float = 0.0  # share of items with a second offer of the same thing in the catalogue
    compared: float = 0.8  # a shopper who clicked one of two offers that were shown clicks the other
    looks: int = 12  # how many times a shopper goes over the list before giving up
    second_look: float = 0.3  # a shopper who clicked the right item goes over the list once more
    return_rate: float = 0.7  # one who clicked only wrong items comes back, and goes on until the next click
    order_rate: float = 0.35  # of clicks on the right item; a wrong one is ordered a tenth as often
    days: int = 28
    broken_rows: int = 0  # rows that break the contract, and as many broken or missing photos up to three


def symmetric_noise(wrong_clicks: float) -> SimulationRecipe:
    """Wrong clicks go to any other item alike: lists are filled evenly from the whole catalogue."""
    return SimulationRecipe(wrong_clicks=wrong_clicks, within_category_share=0.0, popularity_skew=0.0)


def category_noise(wrong_clicks: float) -> SimulationRecipe:
    """Wrong clicks go to the right item's neighbours only: they look alike, and are harder to find."""
    return SimulationRecipe(wrong_clicks=wrong_clicks, wrong_in_category=True, within_category_share=1.0)


@dataclass(frozen=True)
class _Catalogue:
    """Items as numbers: 0 … M−1 in the set's order."""

    item_ids: npt.NDArray[np.str_]
    by_category: Ints  # item numbers, sorted by category
    start: Ints  # (M,) also names the category: where the item's category begins in by_category
    size: Ints  # (M,) how many items its category has
    popularity: Floats  # (M,) cumulative, ends with 1
    twin: Ints  # (M,) the other offer of the same thing; −1: there is none


def simulate(labelled: LabelledSet, out: Path, recipe: SimulationRecipe, now: datetime = LOG_END) -> None:
    """Write items, queries, impressions, judgements and the truth as Parquet tables; `out` appears whole.

    Queries come from the split `train`, judgements from `val`; `test` is kept out of both. `truth.parquet`
    (query_id, item_id) and `twins.parquet` (item_id, twin_of) are for tests and benchmarks only: nothing that
    learns may read them.

    Args:
        labelled: the catalogue and the photos.
        out: the folder to write; an earlier log in it is replaced.
        recipe: how shoppers behave.
        now: where the log ends; it begins `recipe.days` before.

    Raises:
        RecipeError: values that no log can be made from.
        DatasetError: the set has no split `train` or `val`.
        DataError: `out` holds something else.
    """
    _check(recipe)
    rng = np.random.default_rng(recipe.seed)
    photos, judged = labelled.split("train"), labelled.split("val")
    twins = _twins(labelled, recipe)
    labelled = replace(labelled, items=[*labelled.items, *twins.values()])
    catalogue = _catalogue(labelled, list(twins), recipe, rng)
    number = {item_id: index for index, item_id in enumerate(catalogue.item_ids.tolist())}
    right_of_photo = np.array([number[photo.item_id] for photo in photos])
    asked = _asked(right_of_photo, catalogue, recipe, rng)
    right = right_of_photo[asked]
    shown_QP = _ranked_lists(right, catalogue, recipe, rng)
    clicked_QP, ordered_QP = _behaviour(shown_QP, right, catalogue, recipe, rng)

    query_ids = np.array([f"q{index:07d}" for index in range(len(asked))])
    users = np.array([f"u{user:05d}" for user in rng.integers(0, recipe.users, len(asked))])
    begin = now - timedelta(days=recipe.days)
    times = np.sort(rng.integers(0, recipe.days * 86_400_000_000, len(asked))) + _microseconds(begin)
    tables = {
        "items": _items_table(labelled, begin),
        "queries": pa.table(
            {
                "query_id": query_ids,
                "user_id": users,
                "ts": pa.array(times).cast(QUERIES.columns.field("ts").type),
                "image": pa.array([photo.image for photo in photos]).take(pa.array(asked)),
            },
            schema=QUERIES.columns,
        ),
        "impressions": _impressions_table(shown_QP, clicked_QP, ordered_QP, query_ids, times, catalogue),
        "judgements": _judgements_table(judged),
        "truth": pa.table({"query_id": query_ids, "item_id": catalogue.item_ids[right]}),
        "twins": pa.table(
            {"item_id": [twin.item_id for twin in twins.values()], "twin_of": list(twins)},
            schema=pa.schema({"item_id": pa.string(), "twin_of": pa.string()}),
        ),
    }
    with folder_replaced(out, (*(f"{name}.parquet" for name in tables), "broken")) as aside:
        if recipe.broken_rows:
            tables = _with_broken_rows(tables, recipe.broken_rows, aside, out.absolute())
        for name, table in tables.items():
            pq.write_table(table, aside / f"{name}.parquet")


def _check(recipe: SimulationRecipe) -> None:
    counts = recipe.shown, recipe.users, recipe.queries_per_photo
    if min(counts) < 1 or not 0 <= recipe.wrong_clicks < 1 or not 0 <= recipe.twin_items <= 1:
        raise RecipeError(
            "a simulation needs shown, users and queries_per_photo of at least 1, and wrong_clicks and "
            f"twin_items in 0 … 1, not {recipe}"
        )


def _twins(labelled: LabelledSet, recipe: SimulationRecipe) -> dict[str, Item]:
    """item_id → a second offer of the same thing: same picture and text, another price."""
    chance = np.random.default_rng([recipe.seed, 1])  # of its own, so that all else is as without twins
    count = round(recipe.twin_items * len(labelled.items))
    chosen = sorted(chance.permutation(len(labelled.items))[:count].tolist())
    originals = [labelled.items[number] for number in chosen]
    return {
        item.item_id: replace(item, item_id=f"{item.item_id}-twin", price=round(item.price * 1.1, 2))
        for item in originals
    }


def _microseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000)


def _catalogue(
    labelled: LabelledSet, twinned: list[str], recipe: SimulationRecipe, rng: np.random.Generator
) -> _Catalogue:
    """`labelled` ends with the twins of the items named in `twinned`, in that order."""
    number = {item.item_id: index for index, item in enumerate(labelled.items)}
    originals = np.array([number[item_id] for item_id in twinned], dtype=np.int64)
    twins = np.arange(len(number) - len(twinned), len(number))
    twin = np.full(len(number), -1)
    twin[originals], twin[twins] = twins, originals
    categories = np.array([item.category for item in labelled.items])
    _, group, sizes = np.unique(categories, return_inverse=True, return_counts=True)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    weight = rng.permutation(np.arange(1, len(categories) + 1) ** -recipe.popularity_skew)
    return _Catalogue(
        item_ids=np.array([item.item_id for item in labelled.items]),
        by_category=np.argsort(group, kind="stable"),
        start=starts[group],
        size=sizes[group],
        popularity=np.cumsum(weight) / weight.sum(),
        twin=twin,
    )


def _asked(
    right_of_photo: Ints, catalogue: _Catalogue, recipe: SimulationRecipe, rng: np.random.Generator
) -> Ints:
    """Which photo each query sends: every photo once, then again by the popularity of what it shows."""
    photos = len(right_of_photo)
    more = round((recipe.queries_per_photo - 1) * photos)
    popularity = np.diff(catalogue.popularity, prepend=0.0)[right_of_photo]
    again = rng.choice(photos, size=more, p=popularity / popularity.sum())
    return rng.permutation(np.concatenate([np.arange(photos), again]))


def _ranked_lists(
    right: Ints, catalogue: _Catalogue, recipe: SimulationRecipe, rng: np.random.Generator
) -> Ints:
    """(Q, P) item numbers, best score first; −1 where the list has ended."""
    queries, places = len(right), recipe.shown
    shape = (queries, 2 * places)  # twice as many as needed, for some are drawn twice
    near = catalogue.by_category[
        catalogue.start[right][:, None]
        + (rng.random(shape) * catalogue.size[right][:, None]).astype(np.int64)
    ]
    anywhere = np.searchsorted(catalogue.popularity, rng.random(shape), side="right").clip(
        max=len(catalogue.item_ids) - 1
    )
    others = np.where(rng.random(shape) < recipe.within_category_share, near, anywhere)
    twin = catalogue.twin[right]
    others[(others == right[:, None]) | (others == twin[:, None])] = -1
    others = _first_distinct(others, places)
    present = rng.random(queries) < recipe.present
    others[present, -1] = -2  # the right item takes the last place, and its twin the one before
    lists = np.where(others == -2, right[:, None], others)
    if places > 1:
        lists[:, -2] = np.where(present & (twin >= 0), twin, lists[:, -2])
    right_QP = (lists == right[:, None]) | (lists == np.where(twin < 0, -2, twin)[:, None])
    score = rng.standard_normal(lists.shape) + recipe.search_quality * right_QP
    score[lists < 0] = -np.inf
    return np.take_along_axis(lists, np.argsort(-score, axis=1, kind="stable"), axis=1)


def _first_distinct(drawn: Ints, places: int) -> Ints:
    """(Q, P) the first P different numbers ≥ 0 of each row, padded with −1."""
    order = np.argsort(drawn, axis=1, kind="stable")
    in_order = np.take_along_axis(drawn, order, axis=1)
    repeated = np.zeros(drawn.shape, dtype=bool)
    repeated[:, 1:] = in_order[:, 1:] == in_order[:, :-1]
    dropped = np.zeros(drawn.shape, dtype=bool)
    np.put_along_axis(dropped, order, repeated | (in_order < 0), axis=1)
    kept_first = np.argsort(dropped, axis=1, kind="stable")
    return np.take_along_axis(np.where(dropped, -1, drawn), kept_first, axis=1)[:, :places]


def _behaviour(
    shown_QP: Ints,
    right: Ints,
    catalogue: _Catalogue,
    recipe: SimulationRecipe,
    rng: np.random.Generator,
) -> tuple[Bools, Bools]:
    """What was clicked and ordered, (Q, P) each."""
    twin_Q1 = catalogue.twin[right][:, None]
    is_right = (shown_QP == right[:, None]) | ((shown_QP == twin_Q1) & (twin_Q1 >= 0))
    examined = np.arange(1, shown_QP.shape[1] + 1) ** -recipe.position_bias * (shown_QP >= 0)
    if recipe.wrong_in_category:  # what lies elsewhere is looked at in vain
        elsewhere = catalogue.start[shown_QP] != catalogue.start[right][:, None]
        examined = np.where(elsewhere, 0.0, examined)
    wrong_rate = _wrong_click_rate(examined, is_right, recipe)
    chance = examined * np.where(is_right, recipe.relevant_click, wrong_rate)
    clicked = np.zeros(shown_QP.shape, dtype=bool)
    _look(clicked, chance, np.arange(len(clicked)), recipe.looks, rng)
    found, any_click = (clicked & is_right).any(axis=1), clicked.any(axis=1)
    again = rng.random(len(clicked)) < np.where(found, recipe.second_look, recipe.return_rate)
    _look(clicked, chance, np.flatnonzero(again & found), 1, rng)
    _look(clicked, chance, np.flatnonzero(again & any_click & ~found), recipe.looks, rng)
    if recipe.twin_items:
        compares = (clicked & is_right).any(axis=1) & (rng.random(len(clicked)) < recipe.compared)
        clicked |= compares[:, None] & is_right
    order_rate = np.where(is_right, recipe.order_rate, recipe.order_rate / 10)
    return clicked, clicked & (rng.random(clicked.shape) < order_rate)


def _look(clicked: Bools, chance: Floats, rows: Ints, looks: int, rng: np.random.Generator) -> None:
    """Shoppers go over their lists until they click something new, at most `looks` times; sets `clicked`."""
    for _ in range(looks):
        if not len(rows):
            return
        new = (rng.random((len(rows), chance.shape[1])) < chance[rows]) & ~clicked[rows]
        clicked[rows] |= new
        rows = rows[~new.any(axis=1)]


def _wrong_click_rate(examined: Floats, is_right: Bools, recipe: SimulationRecipe) -> float:
    """How often a wrong item is clicked when seen, so that about `wrong_clicks` of clicks are wrong."""
    examined, is_right = examined[:20_000], is_right[:20_000]
    low, high = 0.0, 1.0
    for _ in range(30):
        rate = (low + high) / 2
        chance = examined * np.where(is_right, recipe.relevant_click, rate)
        nothing = np.prod(1 - chance, axis=1, keepdims=True)
        first = chance * (1 - nothing**recipe.looks) / np.maximum(1 - nothing, 1e-12)
        only_wrong = np.maximum(1 - nothing**recipe.looks - (first * is_right).sum(axis=1, keepdims=True), 0)
        later = recipe.second_look * chance * ~is_right * (1 - only_wrong)
        clicks = first + later + recipe.return_rate * only_wrong * first
        wrong_share = clicks[~is_right].sum() / max(float(clicks.sum()), 1e-12)
        low, high = (rate, high) if wrong_share < recipe.wrong_clicks else (low, rate)
    return (low + high) / 2


def _items_table(labelled: LabelledSet, loaded_at: datetime) -> pa.Table:
    columns = {name: [getattr(item, name) for item in labelled.items] for name in ITEMS.columns.names}
    columns["updated_at"] = [loaded_at] * len(labelled.items)
    return pa.table(columns, schema=ITEMS.columns)


def _impressions_table(
    shown_QP: Ints,
    clicked_QP: Bools,
    ordered_QP: Bools,
    query_ids: npt.NDArray[np.str_],
    times: Ints,
    catalogue: _Catalogue,
) -> pa.Table:
    query, place = np.nonzero(shown_QP >= 0)
    rows = len(query)
    return pa.table(
        {
            "query_id": pa.array(query_ids).take(pa.array(query)),
            "item_id": pa.array(catalogue.item_ids).take(pa.array(shown_QP[query, place])),
            "position": place + 1,
            "clicked": clicked_QP[query, place],
            "ordered": ordered_QP[query, place],
            "variant": pa.repeat("control", rows),
            "model_version": pa.repeat("former-search", rows),
            "ts": pa.array(times[query]).cast(IMPRESSIONS.columns.field("ts").type),
        },
        schema=IMPRESSIONS.columns,
    )


def _judgements_table(photos: list[Photo]) -> pa.Table:
    return pa.table(
        {
            "query_id": [f"j{index:06d}" for index in range(len(photos))],
            "image": [photo.image for photo in photos],
            "item_id": [photo.item_id for photo in photos],
        },
        schema=JUDGEMENTS.columns,
    )


def _with_broken_rows(tables: dict[str, pa.Table], rows: int, aside: Path, out: Path) -> dict[str, pa.Table]:
    """The same tables with rows appended that break the contract, as a real export would have them."""
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
    """Queries that keep the contract while their photo is cut off, no photo at all, or not there."""
    (aside / "broken").mkdir()
    (aside / "broken" / "cut.jpg").write_bytes(Path(str(query["image"])).read_bytes()[:1500])
    (aside / "broken" / "text.jpg").write_text("this is no photo")
    return [
        {**query, "query_id": f"broken-{name}", "image": str(out / "broken" / f"{name}.jpg")}
        for name in ("cut", "text", "gone")[:count]
    ]
