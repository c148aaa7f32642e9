"""Simulated shoppers: what they search for, what they are shown, what they click and order. (ours)

The log is that of an earlier, mediocre search. A shopper examines position p of a list with probability p^-η
(the position-based model of Craswell et al., 2008), mostly clicks the item in the photo if they see it, and
sometimes another one. Without a click they scan the list again; after a wrong click they may come back. If a
product has two offers, a shopper who clicked one may also click the other to compare.

Shapes: M items, Q queries, P positions in a list.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from immr.datasets.simulation_recipe import SimulationRecipe
from immr.types import Item

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Catalogue:
    """The catalogue as arrays over item numbers 0 … M−1, in the data set's order."""

    item_ids: npt.NDArray[np.str_]
    by_category: Ints  # item numbers, sorted by category
    start: Ints  # (M,) where the item's category starts in by_category; identifies the category
    size: Ints  # (M,) items in its category
    popularity: Floats  # (M,) cumulative; the last is 1
    twin: Ints  # (M,) the other offer of the same product, or −1


def as_numbers(
    items: Sequence[Item], twinned: Sequence[str], recipe: SimulationRecipe, rng: np.random.Generator
) -> Catalogue:
    """The catalogue as arrays; the last items are the twins of those in `twinned`, in that order."""
    number = {item.item_id: index for index, item in enumerate(items)}
    originals = np.array([number[item_id] for item_id in twinned], dtype=np.int64)
    twins = np.arange(len(number) - len(twinned), len(number))
    twin = np.full(len(number), -1)
    twin[originals], twin[twins] = twins, originals
    categories = np.array([item.category for item in items])
    _, group, sizes = np.unique(categories, return_inverse=True, return_counts=True)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    weight = rng.permutation(np.arange(1, len(categories) + 1) ** -recipe.popularity_skew)
    return Catalogue(
        item_ids=np.array([item.item_id for item in items]),
        by_category=np.argsort(group, kind="stable"),
        start=starts[group],
        size=sizes[group],
        popularity=np.cumsum(weight) / weight.sum(),
        twin=twin,
    )


def searched_photos(
    right_of_photo: Ints, catalogue: Catalogue, recipe: SimulationRecipe, rng: np.random.Generator
) -> Ints:
    """The photo of each query: every photo once, and further ones by the popularity of their item."""
    photos = len(right_of_photo)
    more = round((recipe.queries_per_photo - 1) * photos)
    popularity = np.diff(catalogue.popularity, prepend=0.0)[right_of_photo]
    again = rng.choice(photos, size=more, p=popularity / popularity.sum())
    return rng.permutation(np.concatenate([np.arange(photos), again]))


def ranked_lists(
    right: Ints, catalogue: Catalogue, recipe: SimulationRecipe, rng: np.random.Generator
) -> Ints:
    """(Q, P) item numbers that each query is shown, best score first, padded with −1."""
    queries, places = len(right), recipe.shown
    shape = (queries, 2 * places)  # twice as many as needed, because some are drawn twice
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
    others[present, -1] = -2  # the right item replaces the last, and its twin the one before
    lists = np.where(others == -2, right[:, None], others)
    if places > 1:
        lists[:, -2] = np.where(present & (twin >= 0), twin, lists[:, -2])
    right_QP = (lists == right[:, None]) | (lists == np.where(twin < 0, -2, twin)[:, None])
    score = rng.standard_normal(lists.shape) + recipe.search_quality * right_QP
    score[lists < 0] = -np.inf
    return np.take_along_axis(lists, np.argsort(-score, axis=1, kind="stable"), axis=1)


def _first_distinct(drawn: Ints, places: int) -> Ints:
    """The first P distinct numbers ≥ 0 of each row, (Q, P), padded with −1."""
    order = np.argsort(drawn, axis=1, kind="stable")
    in_order = np.take_along_axis(drawn, order, axis=1)
    repeated = np.zeros(drawn.shape, dtype=bool)
    repeated[:, 1:] = in_order[:, 1:] == in_order[:, :-1]
    dropped = np.zeros(drawn.shape, dtype=bool)
    np.put_along_axis(dropped, order, repeated | (in_order < 0), axis=1)
    kept_first = np.argsort(dropped, axis=1, kind="stable")
    return np.take_along_axis(np.where(dropped, -1, drawn), kept_first, axis=1)[:, :places]


def behaviour(
    shown_QP: Ints,
    right: Ints,
    catalogue: Catalogue,
    recipe: SimulationRecipe,
    rng: np.random.Generator,
) -> tuple[Bools, Bools]:
    """What was clicked and what was ordered, each (Q, P)."""
    twin_Q1 = catalogue.twin[right][:, None]
    is_right = (shown_QP == right[:, None]) | ((shown_QP == twin_Q1) & (twin_Q1 >= 0))
    examined = np.arange(1, shown_QP.shape[1] + 1) ** -recipe.position_bias * (shown_QP >= 0)
    if recipe.wrong_in_category:  # items of other categories are never clicked
        elsewhere = catalogue.start[shown_QP] != catalogue.start[right][:, None]
        examined = np.where(elsewhere, 0.0, examined)
    wrong_rate = _wrong_click_rate(examined, is_right, recipe)
    chance = examined * np.where(is_right, recipe.relevant_click, wrong_rate)
    clicked = np.zeros(shown_QP.shape, dtype=bool)
    _scan(clicked, chance, np.arange(len(clicked)), recipe.scans, rng)
    found, any_click = (clicked & is_right).any(axis=1), clicked.any(axis=1)
    again = rng.random(len(clicked)) < np.where(found, recipe.second_look, recipe.return_rate)
    _scan(clicked, chance, np.flatnonzero(again & found), 1, rng)
    _scan(clicked, chance, np.flatnonzero(again & any_click & ~found), recipe.scans, rng)
    if recipe.twin_items:
        compares = (clicked & is_right).any(axis=1) & (rng.random(len(clicked)) < recipe.compared)
        clicked |= compares[:, None] & is_right
    order_rate = np.where(is_right, recipe.order_rate, recipe.order_rate / 10)
    return clicked, clicked & (rng.random(clicked.shape) < order_rate)


def _scan(clicked: Bools, chance: Floats, rows: Ints, scans: int, rng: np.random.Generator) -> None:
    """Scan the lists until there is a new click, at most `scans` times; updates `clicked` in place."""
    for _ in range(scans):
        if not len(rows):
            return
        new = (rng.random((len(rows), chance.shape[1])) < chance[rows]) & ~clicked[rows]
        clicked[rows] |= new
        rows = rows[~new.any(axis=1)]


def _wrong_click_rate(examined: Floats, is_right: Bools, recipe: SimulationRecipe) -> float:
    """Probability of clicking a wrong item once seen, such that about `wrong_clicks` of all clicks are wrong."""
    examined, is_right = examined[:20_000], is_right[:20_000]
    low, high = 0.0, 1.0
    for _ in range(30):
        rate = (low + high) / 2
        chance = examined * np.where(is_right, recipe.relevant_click, rate)
        nothing = np.prod(1 - chance, axis=1, keepdims=True)
        first = chance * (1 - nothing**recipe.scans) / np.maximum(1 - nothing, 1e-12)
        only_wrong = np.maximum(1 - nothing**recipe.scans - (first * is_right).sum(axis=1, keepdims=True), 0)
        later = recipe.second_look * chance * ~is_right * (1 - only_wrong)
        clicks = first + later + recipe.return_rate * only_wrong * first
        wrong_share = clicks[~is_right].sum() / max(float(clicks.sum()), 1e-12)
        low, high = (rate, high) if wrong_share < recipe.wrong_clicks else (low, rate)
    return (low + high) / 2
