"""Writes a shop: items with pictures, shoppers' photos, and a click log with skew, position bias and bots.

The truth (which item each photo shows) goes to `truth.parquet`, which nothing that learns may read.
"""

from __future__ import annotations

import math
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import repeat
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.shop.pictures import Thing, write_catalogue_picture, write_photo
from immr.data.contract import ITEMS, QUERIES
from immr.governance.labels.class_scores import Ints
from immr.machine import cores

PER_CATEGORY = 50
BOT_SHARE = 0.01  # of queries
BOT_QUERIES = 40  # of one bot, all in one minute: above the bot policy's limit
PICTURES_AT_ONCE = 500
_COLOURS = ("red", "orange", "yellow", "green", "turquoise", "blue", "purple", "pink")
_THINGS = ("bowl", "lamp", "rug", "vase", "tile", "cushion", "plate", "tray", "box", "mirror")
_ABOUT = (
    "hand-made natural solid recycled soft matt glossy easy-care washable stackable foldable light sturdy modern "
    "classic indoor outdoor oak glass steel cotton linen wool clay bamboo from with and for kitchen bedroom garden"
)


@dataclass(frozen=True)
class Size:
    """How large a shop is."""

    items: int
    queries: int
    impressions: int

    @property
    def shown(self) -> int:
        """Items in each answer."""
        return max(1, self.impressions // self.queries)

    def scaled(self, share: float) -> Size:
        """The same shop with this share of everything."""
        return Size(*(max(1, round(count * share)) for count in (self.items, self.queries, self.impressions)))


def write(size: Size, folder: Path, seed: int = 0, drawn: int | None = None) -> None:
    """Write pictures and tables below `folder`.

    Args:
        size: how much.
        folder: where.
        seed: of everything random.
        drawn: only so many items and photos get a picture of their own; the others get copies with another hash,
            which is enough for verbs that compute no embedding.
    """
    now = datetime.now(UTC).replace(microsecond=0)
    truth_Q = _asked(size, seed)
    for pictures in ("catalogue", "photos"):
        (folder / pictures).mkdir(parents=True, exist_ok=True)
    drawn = drawn or max(size.items, size.queries)
    _draw(min(size.items, drawn), truth_Q[:drawn], folder, seed)
    for pictures, count in (("catalogue", size.items), ("photos", size.queries)):
        if count > drawn:
            _copy(folder / pictures, drawn, count)
    pq.write_table(_items(size.items, seed, now), folder / "items.parquet")
    pq.write_table(_queries(size, now, seed), folder / "queries.parquet")
    pq.write_table(
        pa.table({"query_id": _query_ids(size.queries), "item_id": [item_id(n) for n in truth_Q.tolist()]}),
        folder / "truth.parquet",
    )
    _write_impressions(size, folder)


def item_id(number: int) -> str:
    """The id of an item."""
    return f"i{number:07d}"


def _asked(size: Size, seed: int) -> Ints:
    """(Q,) the item that each photo shows. Popularity follows Zipf's law with exponent 1."""
    rng = np.random.default_rng([seed, 1])
    rank_Q = np.floor(np.exp(rng.random(size.queries) * math.log(size.items + 1))).astype(np.int64) - 1
    asked_Q: Ints = rng.permutation(size.items)[rank_Q.clip(max=size.items - 1)]
    return asked_Q


def _draw(items: int, truth_Q: Ints, folder: Path, seed: int) -> None:
    with ProcessPoolExecutor(cores.usable()) as pool:
        parts = [
            range(start, min(start + PICTURES_AT_ONCE, items)) for start in range(0, items, PICTURES_AT_ONCE)
        ]
        list(pool.map(_draw_items, parts, repeat(folder), repeat(seed)))
        starts = range(0, len(truth_Q), PICTURES_AT_ONCE)
        shown = [truth_Q[start : start + PICTURES_AT_ONCE] for start in starts]
        list(pool.map(_draw_photos, starts, shown, repeat(folder), repeat(seed)))


def _draw_items(numbers: range, folder: Path, seed: int) -> None:
    for number in numbers:
        write_catalogue_picture(Thing.of(seed, number), folder / "catalogue" / f"{number}.jpg")


def _draw_photos(start: int, truth: Ints, folder: Path, seed: int) -> None:
    for query, number in enumerate(truth.tolist(), start):
        rng = np.random.default_rng([seed, 2, query])
        write_photo(Thing.of(seed, number), folder / "photos" / f"{query}.jpg", rng)


def _copy(folder: Path, drawn: int, count: int) -> None:
    """A JPEG ends with a marker; what follows it is not read, but changes the content's hash."""
    originals = [(folder / f"{number}.jpg").read_bytes() for number in range(drawn)]
    for number in range(drawn, count):
        (folder / f"{number}.jpg").write_bytes(originals[number % drawn] + str(number).encode())


def _items(items: int, seed: int, now: datetime) -> pa.Table:
    rng = np.random.default_rng([seed, 3])
    things = [Thing.of(seed, number) for number in range(items)]
    texts = [_text(thing, number, rng) for number, thing in enumerate(things)]
    categories = [f"Home/Group {n // PER_CATEGORY % 20}/Kind {n // PER_CATEGORY}" for n in range(items)]
    columns = {
        "item_id": [item_id(number) for number in range(items)],
        "title": [title for title, _ in texts],
        "description": [description for _, description in texts],
        "category": categories,
        "image": [f"catalogue/{number}.jpg" for number in range(items)],
        "price": np.exp(rng.normal(3, 1, items)).round(2),
        "updated_at": [now - timedelta(days=60)] * items,
        "stock": rng.integers(0, 50, items).astype(float),
        "images": [None] * items,
    }
    return pa.table(
        {name: pa.array(columns[name], ITEMS.columns.field(name).type) for name in ITEMS.columns.names}
    )


def _text(thing: Thing, number: int, rng: np.random.Generator) -> tuple[str, str]:
    """Title and description: pattern and colours are in the text, as they are in the picture."""
    one, other = (_COLOURS[int(hue * len(_COLOURS))] for hue in (thing.hue, thing.second_hue))
    words = " ".join(rng.choice(_ABOUT.split(), int(rng.integers(8, 40))))
    title = f"{thing.pattern.capitalize()} {one} {_THINGS[number % len(_THINGS)]} {number}"
    return title, f"{one.capitalize()} and {other}, {thing.pattern}; {words}."


def _query_ids(queries: int) -> list[str]:
    return [f"q{number:08d}" for number in range(queries)]


def _queries(size: Size, now: datetime, seed: int) -> pa.Table:
    """The last queries are those of bots."""
    rng = np.random.default_rng([seed, 4])
    queries, bots = size.queries, _bot_queries(size)
    people = max(20, queries // 3)
    users = [f"u{user:07d}" for user in rng.integers(0, people, queries - bots)]
    users += [f"bot-{query // BOT_QUERIES}" for query in range(bots)]
    ago_s = np.sort(rng.integers(60, 28 * 86_400, queries - bots))[::-1]
    times = [now - timedelta(seconds=int(s)) for s in ago_s] + [now - timedelta(seconds=90)] * bots
    columns = {
        "query_id": _query_ids(queries),
        "user_id": users,
        "ts": times,
        "image": [f"photos/{query}.jpg" for query in range(queries)],
    }
    return pa.table(columns, schema=QUERIES.columns)


def _bot_queries(size: Size) -> int:
    return round(size.queries * BOT_SHARE) // BOT_QUERIES * BOT_QUERIES


def _write_impressions(size: Size, folder: Path) -> None:
    """One answer a query: the right item at one of the first places, half of the others of its category.

    Clicks fall with the position, p^-0.7; bots click anything. Half of the users are in the variant `challenger`.
    """
    import duckdb

    first_bot = size.queries - _bot_queries(size)
    with duckdb.connect() as base:
        base.execute("SET preserve_insertion_order = false; SET TimeZone = 'UTC'")
        base.execute(
            f"""
            COPY (
                WITH asked AS (
                    SELECT query_id, user_id, ts, substr(query_id, 2)::BIGINT AS q,
                        substr(item_id, 2)::BIGINT AS home,
                        hash(query_id) % least({size.shown}, 6) AS place
                    FROM '{folder}/queries.parquet' JOIN '{folder}/truth.parquet' USING (query_id)),
                drawn AS (
                    SELECT *, hash(q * 1000 + k) AS dice,
                        CASE WHEN k = place THEN home
                            WHEN k % 2 = 0 THEN least(home // {PER_CATEGORY} * {PER_CATEGORY}
                                + (home + k + 1) % {PER_CATEGORY}, {size.items - 1})
                            ELSE hash(q * 1000 + k + 500) % {size.items} END AS item
                    FROM asked, range({size.shown}) t(k)),
                chanced AS (
                    SELECT *, dice % 1000000 / 1e6 AS chance, (k + 1) ** -0.7 AS seen FROM drawn
                    QUALIFY row_number() OVER (PARTITION BY q, item ORDER BY k <> place, k) = 1)
                SELECT query_id, 'i' || lpad(item::VARCHAR, 7, '0') AS item_id, (k + 1)::BIGINT AS position,
                    CASE WHEN q >= {first_bot} THEN chance < 0.3
                        WHEN k = place THEN chance < 0.9 * seen ELSE chance < 0.04 * seen END AS clicked,
                    clicked AND k = place AND dice // 1000000 % 4 = 0 AS ordered,
                    CASE WHEN hash(user_id) % 2 = 0 THEN 'champion' ELSE 'challenger' END AS variant,
                    CASE WHEN hash(user_id) % 2 = 0 THEN 'immr-1' ELSE 'immr-2' END AS model_version, ts
                FROM chanced
            ) TO '{folder}/impressions.parquet'
            """
        )


def write_events(shop: Path, folder: Path) -> None:
    """The shop's log as the event log of an A/B test: `impressions.parquet` and `searches.parquet`."""
    import duckdb

    folder.mkdir()
    queries, shown = shop / "queries.parquet", shop / "impressions.parquet"
    with duckdb.connect() as base:
        base.execute(
            f"""COPY (SELECT shown.*, user_id FROM '{shown}' shown JOIN '{queries}' USING (query_id))
            TO '{folder}/impressions.parquet'"""
        )
        base.execute(
            f"""COPY (
                SELECT query_id, user_id, variant, model_version, min(ts) AS ts, false AS fallback,
                    20.0 AS took_ms, count(*) AS results
                FROM '{folder}/impressions.parquet' GROUP BY ALL
            ) TO '{folder}/searches.parquet'"""
        )
