"""Materialize: compute features from impressions and clicks, and write them to the online feature store.

Items always have features; users have them if the ranking is personal (docs/ranking.md). Bots are excluded by the
readout's rules. Impressions of all variants count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from immr.data.admission import TableCounts, admit_table
from immr.data.contract import IMPRESSIONS, QUERIES
from immr.data.sources.shop import Shop
from immr.data.training_set import TableUse
from immr.events.query_ids import ANONYMOUS
from immr.features.clicks import CLICKS_BY_USER, MAX_CLICKS, USER_CLICKS, USER_WINDOW, user_clicks
from immr.features.stats import COUNTS_SCHEMA, WINDOW, item_stats
from immr.readout.bots import DEFAULT_BOT_POLICY, mark_bots

if TYPE_CHECKING:
    import pyarrow as pa

    from immr.data.training_set import TrainingSet
    from immr.events.event_log import EventLog
    from immr.wiring import Parts

_MICROSECOND = timedelta(microseconds=1)
_OLDER = "older than seven days"
_OF_BOTS = "of bots"
_IN_EVENT_LOG = "counted from the event log instead"
_UNKNOWN_ITEM = "of items that are not in the training set"

_QUERIES_OF_LOG = """
SELECT query_id, queries.user_id, make_timestamp(epoch_us(any_value(queries.ts))) AS ts,
    count(*) FILTER (WHERE clicked) AS clicks
FROM read_parquet($impressions) AS shown JOIN read_parquet($queries) AS queries USING (query_id)
WHERE shown.ts > $since
GROUP BY query_id, queries.user_id
"""

_CLICKED_IN_LOG = """
SELECT queries.user_id, query_id, item_id, make_timestamp(epoch_us(max(shown.ts))) AS ts
FROM read_parquet($impressions) AS shown JOIN read_parquet($queries) AS queries USING (query_id)
WHERE clicked AND shown.ts > $since AND query_id NOT IN (SELECT query_id FROM without)
    AND queries.user_id NOT IN (SELECT user_id FROM bots) AND queries.user_id <> $anonymous || query_id
GROUP BY queries.user_id, query_id, item_id
QUALIFY row_number() OVER (PARTITION BY queries.user_id ORDER BY max(shown.ts) DESC, query_id, item_id) <= $per_user
ORDER BY max(shown.ts) DESC LIMIT $most
"""

_FATES = f"""
SELECT CASE WHEN ts <= $since OR ts > $until THEN '{_OLDER}'
            WHEN query_id IN (SELECT query_id FROM of_bots) THEN '{_OF_BOTS}'
            WHEN query_id IN (SELECT query_id FROM in_event_log) THEN '{_IN_EVENT_LOG}'
            WHEN item_id NOT IN (SELECT item_id FROM items) THEN '{_UNKNOWN_ITEM}'
            ELSE '' END AS fate, count(*) AS rows
FROM (SELECT query_id, item_id, make_timestamp(epoch_us(ts)) AS ts FROM read_parquet($impressions))
GROUP BY fate
"""


@dataclass(frozen=True)
class Materialized:
    """What was written to the online store, and what became of the click log's rows."""

    items: int  # with features
    without_impressions: int  # of them, not shown to anyone in the seven days
    use: tuple[TableUse, ...]
    users: int | None = None  # with features; None unless the ranking is personal
    deleted_users: bool = False  # whether users had features, which were deleted

    @property
    def sentence(self) -> str:
        """What the command prints: a sentence about the items, and one about each table."""
        unseen = f"; {self.without_impressions:,} were not shown in the last seven days"
        about_items = f"{self.items:,} items have features online{unseen if self.without_impressions else ''}"
        about_users = [] if self.users is None else [f"users with clicks in the last 30 days: {self.users:,}"]
        if self.deleted_users:
            about_users.append("those of users were deleted, because the recipe's ranking is not personal")
        return "\n".join(["; ".join([about_items, *about_users]), *(each.sentence for each in self.use)])


@dataclass(frozen=True)
class _ClickLog:
    """The valid impressions of a shop's folder, and how many rows were not valid."""

    impressions: Path
    queries: Path | None  # has the user ids; the table is optional
    newest: datetime
    queries_of_bots: pa.Table  # query_id; empty without a table of queries
    admitted: Mapping[str, TableCounts]  # by table


def materialize(
    parts: Parts, training_set: TrainingSet, data: Shop | str | Path, personal: bool | None = None
) -> Materialized:
    """Write features of the click log's last seven days.

    Args:
        parts: The process's adapters.
        training_set: Its items are the catalogue.
        data: Has the click log.
        personal: Whether users get features too, from the last 30 days. Else all of theirs are deleted. None
            decides as the last write did.

    Raises:
        ContractError: No impression meets the contract.
        FeaturesUnavailableError: The feature store does not answer.
        SettingsError: Users should get features, but the online store cannot delete a user.
    """
    had_users = parts.features.has_users
    personal = had_users if personal is None else personal
    with _click_log(data) as log:
        stats = item_stats(
            training_set.items, log.impressions, log.newest, without_queries=log.queries_of_bots
        )
        use = _use(log, training_set, log.newest)
        users = (
            user_clicks(training_set.items, _clicked_in(log, log.newest), log.newest) if personal else None
        )
    count = parts.features.materialize(stats, users)
    return Materialized(count, _without_impressions(stats), use, _rows(users), had_users and not personal)


def push(
    parts: Parts, training_set: TrainingSet, data: Shop | str | Path, personal: bool | None = None
) -> Materialized:
    """Write features of the click log and of the event log.

    The seven days end at the newest impression of both. Queries in both (the click log may be an export of
    the event log) count once, with the event log's values.

    Args:
        parts: The process's adapters.
        training_set: Its items are the catalogue.
        data: Has the click log.
        personal: As for `materialize`.

    Raises:
        ContractError: No impression meets the contract.
        EventLogError: The event log does not answer.
        FeaturesUnavailableError: The feature store does not answer.
        SettingsError: Users should get features, but the online store cannot delete a user.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    had_users = parts.features.has_users
    personal = had_users if personal is None else personal
    with _click_log(data) as log:
        queries = parts.events.by_query(log.newest - WINDOW)
        now = max(log.newest, pc.max(queries["ts"]).as_py() or log.newest)
        in_event_log = queries.select(["query_id"])
        without = pa.concat_tables([log.queries_of_bots, in_event_log])
        live = _live_counts(parts.events, now - WINDOW + _MICROSECOND, bots=_bots_of(queries))
        stats = item_stats(training_set.items, log.impressions, now, live=live, without_queries=without)
        use = _use(log, training_set, now, in_event_log)
        users = None
        if personal:
            clicked = _clicked_in_both(log, parts.events, now)
            users = user_clicks(training_set.items, clicked, now)
    count = parts.features.push(stats, users)
    return Materialized(count, _without_impressions(stats), use, _rows(users), had_users and not personal)


def forget(parts: Parts, user_id: str) -> None:
    """Delete a user's features, and never write any again. The event log keeps the user's events.

    Raises:
        FeaturesUnavailableError: The feature store does not answer: call it again.
    """
    parts.features.forget(user_id)


def _rows(users: pa.Table | None) -> int | None:
    return None if users is None else users.num_rows


def _without_impressions(stats: pa.Table) -> int:
    import pyarrow.compute as pc

    return int(pc.sum(pc.equal(stats["impressions_7d"], 0)).as_py() or 0)


def _use(
    log: _ClickLog, training_set: TrainingSet, until: datetime, in_event_log: pa.Table | None = None
) -> tuple[TableUse, ...]:
    """What became of the rows of each table of the click log."""
    import duckdb
    import pyarrow as pa

    no_queries = log.queries_of_bots.schema.empty_table()
    until = until.astimezone(UTC).replace(tzinfo=None)
    values = {"since": until - WINDOW, "until": until, "impressions": str(log.impressions)}
    with duckdb.connect() as base:
        base.register("of_bots", log.queries_of_bots)
        base.register("in_event_log", no_queries if in_event_log is None else in_event_log)
        base.register("items", pa.table({"item_id": pa.array(sorted(training_set.item_ids), pa.string())}))
        fates = dict(base.execute(_FATES, values).fetchall())
    used = {IMPRESSIONS.name: fates.pop("", 0)}
    lost = {IMPRESSIONS.name: fates}
    uses = []
    for table, counts in log.admitted.items():
        reasons = Counter(lost.get(table, {})) + Counter(counts.rejected)
        usable = used.get(table, counts.valid)
        uses.append(TableUse(table, counts.rows_in, usable, 0, dict(reasons.most_common())))
    return tuple(uses)


@contextmanager
def _click_log(data: Shop | str | Path) -> Iterator[_ClickLog]:
    import pyarrow as pa
    import pyarrow.compute as pc

    with TemporaryDirectory(prefix="immr-click-log-") as scratch:
        folder = Path(scratch)
        shop = Shop.of(data)
        shown = shop.table(IMPRESSIONS)
        assert shown is not None, "impressions are not optional"
        admitted = {IMPRESSIONS.name: admit_table(shown, folder)}
        impressions = folder / "impressions.parquet"
        newest = _newest(impressions)
        of_bots = pa.table({"query_id": pa.array([], pa.string())})
        asked_file = None
        if asked := shop.table(QUERIES, optional=True):
            admitted[QUERIES.name] = admit_table(asked, folder)
            asked_file = folder / "queries.parquet"
            queries = _queries_of(impressions, asked_file, newest - WINDOW)
            is_bot = pc.is_in(queries["user_id"], value_set=pa.array(_bots_of(queries), pa.string()))
            of_bots = queries.filter(is_bot).select(["query_id"])
        yield _ClickLog(impressions, asked_file, newest, of_bots, admitted)


def _newest(impressions: Path) -> datetime:
    import duckdb
    import pyarrow as pa

    with duckdb.connect() as base:
        [(newest_us,)] = base.execute(
            "SELECT max(epoch_us(ts)) FROM read_parquet($file)", {"file": str(impressions)}
        ).fetchall()
    newest: datetime = pa.scalar(newest_us, pa.timestamp("us", "UTC")).as_py()
    return newest


def _queries_of(impressions: Path, queries: Path, since: datetime) -> pa.Table:
    import duckdb

    with duckdb.connect() as base:
        files = {"impressions": str(impressions), "queries": str(queries), "since": since}
        result: pa.Table = base.sql(_QUERIES_OF_LOG, params=files).to_arrow_table()
    return result


def _bots_of(queries: pa.Table) -> list[str]:
    """User ids, from one row per query: query_id, user_id, ts, clicks."""
    import duckdb

    with duckdb.connect() as base:
        base.register("queries", queries)
        mark_bots(base, DEFAULT_BOT_POLICY)
        return [user for (user,) in base.execute("SELECT user_id FROM bots").fetchall()]


def _clicked_in_both(log: _ClickLog, events: EventLog, now: datetime) -> pa.Table:
    """Clicks by user of the last 30 days, those of queries in both logs once."""
    import pyarrow as pa

    since = now - USER_WINDOW + _MICROSECOND
    queries = events.by_query(since)
    live = events.recent_clicks(USER_CLICKS, MAX_CLICKS, since, _bots_of(queries))
    return pa.concat_tables([live, _clicked_in(log, now, queries.select(["query_id"])).cast(live.schema)])


def _clicked_in(log: _ClickLog, until: datetime, without: pa.Table | None = None) -> pa.Table:
    """Clicks by user in the click log; none without a table of queries.

    Args:
        log: With all its clicks.
        until: End of the 30 days.
        without: query_id of queries to leave out.
    """
    import duckdb
    import pyarrow as pa

    if log.queries is None:
        return CLICKS_BY_USER.empty_table()
    since = until - USER_WINDOW
    bots = _bots_of(_queries_of(log.impressions, log.queries, since))
    values = {"since": since, "impressions": str(log.impressions), "queries": str(log.queries)}
    with duckdb.connect() as base:
        base.register("bots", pa.table({"user_id": pa.array(bots, pa.string())}))
        base.register("without", log.queries_of_bots.schema.empty_table() if without is None else without)
        bounds = {"per_user": USER_CLICKS, "most": MAX_CLICKS, "anonymous": ANONYMOUS}
        found: pa.Table = base.sql(_CLICKED_IN_LOG, params={**values, **bounds}).to_arrow_table()
    return found.cast(CLICKS_BY_USER)


def _live_counts(events: EventLog, since: datetime, bots: list[str]) -> pa.Table:
    import pyarrow as pa

    counted = events.summed_by("item_id", since, without_users=bots)
    columns = [[c.of for c in counted], [c.impressions for c in counted], [c.clicks for c in counted]]
    return pa.table(columns, schema=COUNTS_SCHEMA)
