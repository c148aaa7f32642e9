"""What was known of each user when they searched, for every impression of a log.

A click counts from the next day on, as in the item features, so that no signal knows what was clicked later.

Shapes: R impressions, Q queries, P personal signals.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from immr.data.attributes import CLASS
from immr.features.user_clicks import USER_CLICKS, USER_WINDOW
from immr.ranking.click_log import DAY, Bools, ClickLog, Ints
from immr.search.personal_signals import personal_names, personal_signals
from immr.search.signals import Signals
from immr.types import AttributeKind, Candidate, Item, ItemFeatures, UserFeatures

_WINDOW_DAYS = USER_WINDOW // DAY


@dataclass(frozen=True)
class Histories:
    """One row of signals per impression, in the order of the log; NaN for users without earlier clicks."""

    signals_RP: Signals
    known_Q: Bools  # whether the user had a click by then


def histories(log: ClickLog, items: Sequence[Item], attributes: Mapping[str, AttributeKind]) -> Histories:
    """Compute every signal with the function that search uses.

    Args:
        log: the impressions.
        items: the catalogue that the log was read with.
        attributes: the declared attributes that are signals.
    """
    signals_RP = np.full((len(log.query_R), len(personal_names(attributes))), np.nan)
    known_Q = np.zeros(len(log.user_Q), dtype=np.bool_)
    starts_Q, day_Q = log.starts_Q, log.day_Q
    for queries, clicks in _by_user(log):
        click_days = day_Q[log.query_R[clicks]]
        for day in np.unique(day_Q[queries]):
            earlier = known_on(int(day), click_days)
            if earlier.start == earlier.stop:
                continue
            user = user_features([items[item] for item in log.item_R[clicks[earlier]][::-1]])
            for query in queries[day_Q[queries] == day]:
                rows = slice(starts_Q[query], starts_Q[query + 1])
                shown = [items[item] for item in log.item_R[rows]]
                signals_RP[rows] = personal_signals(
                    [_candidate(item) for item in shown],
                    {item.item_id: _features(item) for item in shown},
                    user,
                    attributes,
                )
                known_Q[query] = True
    return Histories(signals_RP, known_Q)


def known_on(day: int, click_days: Ints) -> slice:
    """Which of a user's clicks the feature store would have held at the start of a day.

    Args:
        day: days since 1970.
        click_days: of the user's clicks, sorted.
    """
    first, end = np.searchsorted(click_days, [day - _WINDOW_DAYS, day])
    return slice(int(max(first, end - USER_CLICKS)), int(end))


def user_features(clicked: Sequence[Item]) -> UserFeatures:
    """Features of a user who clicked these items, newest first, as `immr.features.user_clicks` stores them."""
    return UserFeatures(
        items=tuple(item.item_id for item in clicked),
        categories=tuple(item.category for item in clicked),
        prices=tuple(item.price for item in clicked),
        attributes=tuple(
            {name: value for name, value in item.attributes.items() if name != CLASS} for item in clicked
        ),
    )


def _by_user(log: ClickLog) -> Iterator[tuple[Ints, Ints]]:
    """The queries of each user, and the impressions that they clicked, both by time."""
    users, user_Q = np.unique(log.user_Q, return_inverse=True)
    clicked = np.flatnonzero(log.clicked_R)
    clicked = clicked[np.argsort(user_Q[log.query_R[clicked]], kind="stable")]
    asked = np.argsort(user_Q, kind="stable")
    bounds = np.arange(len(users) + 1)
    of_queries = np.searchsorted(user_Q[asked], bounds)
    of_clicks = np.searchsorted(user_Q[log.query_R[clicked]], bounds)
    for user in range(len(users)):
        yield (
            asked[of_queries[user] : of_queries[user + 1]],
            clicked[of_clicks[user] : of_clicks[user + 1]],
        )


def _candidate(item: Item) -> Candidate:
    return Candidate(item.item_id, 0.0, "", item.category, "", item.attributes)


def _features(item: Item) -> ItemFeatures:
    return ItemFeatures(item.price, item.category, 0, 0, 0.0)
