"""Recent behaviour to compare with the held-out data: photos and clicked categories, one of each user.

A user's repeats are not independent, so each counts once. Only users with a click count, because governance trains on
and holds out clicked queries only. DuckDB does the selection: what is held in memory does not grow with the log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from immr.readout.bots import DEFAULT_BOT_POLICY, mark_bots
from immr.readout.event_views import Relation
from immr.readout.sums import open_queries

_NEW_ITEMS = "new items"
_NEWEST = "row_number() OVER (PARTITION BY user_id ORDER BY ts DESC, query_id DESC, position DESC, item_id DESC) = 1"
_CLICKED = "shown ANTI JOIN bots USING (user_id)"

_PHOTOS = f"""CREATE TEMP TABLE newest_photos AS
    SELECT image, row_number() OVER (ORDER BY user_id) - 1 AS place FROM (
        SELECT user_id, image FROM {_CLICKED} JOIN read_parquet($photos) USING (query_id)
        WHERE clicked QUALIFY {_NEWEST})"""

_CATEGORIES = f"""SELECT coalesce(category, '{_NEW_ITEMS}') AS name, count(*) FROM (
        SELECT item_id FROM {_CLICKED} WHERE clicked QUALIFY {_NEWEST})
    LEFT JOIN catalogue USING (item_id) GROUP BY name ORDER BY name"""


@dataclass(frozen=True)
class Recent:
    """What users did.

    Attributes:
        photos: The newest kept photo of each user, or a sample of them.
        categories: Of each user's newest click; how many users clicked each. Items outside the catalogue count as
            "new items".
    """

    photos: list[str]
    categories: Mapping[str, int]


def recent(
    joined: Relation, searches: Relation, photos: Path, category: Mapping[str, str], most: int, seed: int
) -> Recent:
    """The photos and categories of the users in a log, without bots.

    Args:
        joined: Impressions with their clicks.
        searches: Searches of the same time.
        photos: A Parquet file as `events.photos.PhotoStore.on_disk` gives it.
        category: Of each item of the catalogue.
        most: Photos, at most.
        seed: Of the sample.
    """
    with open_queries(joined, searches) as base:
        mark_bots(base, DEFAULT_BOT_POLICY)
        base.register(
            "catalogue",
            pa.table(
                {
                    "item_id": pa.array(category, pa.string()),
                    "category": pa.array(category.values(), pa.string()),
                }
            ),
        )
        categories = dict(base.execute(_CATEGORIES).fetchall())
        base.execute(_PHOTOS, {"photos": str(photos)})
        [(count,)] = base.execute("SELECT count(*) FROM newest_photos").fetchall()
        chosen = sample(count, most, seed)
        base.register("chosen", pa.table({"place": chosen, "number": np.arange(len(chosen))}))
        found = base.execute(
            "SELECT image FROM newest_photos JOIN chosen USING (place) ORDER BY number"
        ).fetchall()
    return Recent([image for (image,) in found], categories)


def sample(count: int, most: int, seed: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """At most `most` of the numbers below `count`, without repeats; all in order if they are not more."""
    if count <= most:
        return np.arange(count)
    return np.random.default_rng(seed).choice(count, most, replace=False)
