"""Materialize: compute features from impressions and clicks, and write them to the online feature store.

Items always have features; users have them if the ranking is personal (docs/ranking.md). Bots are excluded by the
readout's rules. Impressions of all variants count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from immr.data.contract import IMPRESSIONS, QUERIES
from immr.data.sources.shop import Shop
from immr.data.training_set import TableUse
from immr.data.validation.tables import TableCounts, admit_table
from immr.events.query_ids import ANONYMOUS
from immr.features.item_stats import COUNTS_SCHEMA, WINDOW, item_stats
from immr.features.logged_queries import LoggedQueries
from immr.features.user_clicks import (
    CLICKED_IN_LOG,
    CLICKS_BY_USER,
    MAX_CLICKS,
    USER_CLICKS,
    USER_WINDOW,
    age_warning,
    user_clicks,
)
from immr.machine.progress_bar import elapsed
from immr.storage.database import database

if TYPE_CHECKING:
    import pyarrow as pa

    from immr.data.training_set import TrainingSet
    from immr.events.event_log import EventLog
    from immr.wiring import Parts

_COUNTING = "counting impressions and clicks"
_MICROSECOND = timedelta(microseconds=1)
_REASONS = {
    "older": "older than seven days",
    "bots": "of bots",
    "counted": "counted from the event log instead",
    "unknown": "of items that are not in the training set",
}

_FATES = """
SELECT CASE WHEN ts <= $since OR ts > $until THEN $older
            WHEN query_id IN (SELECT query_id FROM read_parquet($of_bots)) THEN $bots
            WHEN query_id IN ({in_event_log}) THEN $counted
            WHEN item_id NOT IN (SELECT item_id FROM items) THEN $unknown
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
    users_needed_by: Sequence[str] = ()  # versions in use, for which users keep features
    users_warning: str = ""  # a sentence, if searches ignore features of users
    deleted_users: bool = False  # whether users had features, which were deleted
    from_event_log: int | None = None  # impressions that count; None if the event log was not read

    @property
    def sentence(self) -> str:
        """What the command prints: a sentence about the items, and one about each table."""
        unseen = f", of which not shown in the last seven days: {self.without_impressions:,}"
        about = [f"items with features online: {self.items:,}{unseen if self.without_impressions else ''}"]
        if self.users is not None:
            about.append(f"users with clicks in the last 30 days: {self.users:,}")
        if self.users_needed_by:
            about.append(f"users keep features for the ranking of {', '.join(self.users_needed_by)}")
        if self.users_warning:
            about.append(self.users_warning)
        if self.deleted_users:
            about.append("those of users were deleted, because the recipe's ranking is not personal")
        if self.from_event_log is not None:
            about.append(f"impressions of the event log that count: {self.from_event_log:,}")
        return "\n".join(["; ".join(about), *(each.sentence for each in self.use)])


@dataclass(frozen=True)
class _ClickLog:
    """The valid rows of a shop's click log, and how many were not valid."""

    impressions: Path
    queries: Path | None  # has the user ids; the table is optional
    newest: datetime
    queries_of_bots: Path  # query_id; without rows if there is no table of queries
    admitted: Mapping[str, TableCounts]  # by table


def materialize(
    parts: Parts, training_set: TrainingSet, data: Shop | str | Path, personal: bool | None = None
) -> Materialized:
    """Write features of the click log's last seven days.

    Args:
        parts: The process's adapters.
        training_set: Its items are the catalogue.
        data: Has the click log.
        personal: Whether users get features too, from the last 30 days. Else all of theirs are deleted, unless a
            version in use has a personal ranker. None decides as the last write did.

    Raises:
        ContractError: No impression meets the contract.
        FeaturesUnavailableError: The feature store does not answer.
        SettingsError: Users should get features, but the online store cannot delete a user.
    """
    had_users = parts.features.has_users
    personal, needed_by = _with_users(parts, had_users, personal)
    with _click_log(data) as log, elapsed(_COUNTING):
        items, now = training_set.items, log.newest
        stats = item_stats(items, log.impressions, now, without_queries=[log.queries_of_bots])
        use = _use(log, training_set, now)
        users = user_clicks(items, _clicked_in(log, now), now) if personal else None
    count = parts.features.materialize(stats, users)
    warning, unseen = age_warning(now) if users else "", _without_impressions(stats)
    deleted = had_users and not personal
    user_count = None if users is None else users.num_rows
    return Materialized(count, unseen, use, user_count, needed_by, warning, deleted)


def push(
    parts: Parts, training_set: TrainingSet, data: Shop | str | Path, personal: bool | None = None
) -> Materialized:
    """Write features of the click log and of the event log.

    The seven days end at the newest impression of both. Queries in both (the click log may be an export of
    the event log) count once, with the event log's values. Arguments and errors are those of `materialize`.

    Raises:
        EventLogError: The event log does not answer.
        FeaturesUnavailableError: Nothing has been materialized yet, or the feature store does not answer.
    """
    import pyarrow.compute as pc

    had_users = parts.features.has_users
    personal, needed_by = _with_users(parts, had_users, personal)
    with (
        _click_log(data) as log,
        elapsed(_COUNTING),
        _logged(parts.events, log.newest - WINDOW) as queries,
    ):
        now = max(log.newest, queries.newest() or log.newest)
        without = [log.queries_of_bots, queries.file]
        live = _live_counts(parts.events, now - WINDOW + _MICROSECOND, bots=queries.bots())
        stats = item_stats(training_set.items, log.impressions, now, live=live, without_queries=without)
        use = _use(log, training_set, now, queries.file)
        users = None
        if personal:
            clicked = _clicked_in_both(log, parts.events, now)
            users = user_clicks(training_set.items, clicked, now)
    count = parts.features.push(stats, users)
    return Materialized(
        count,
        _without_impressions(stats),
        use,
        users=None if users is None else users.num_rows,
        users_needed_by=needed_by,
        users_warning=age_warning(now) if users else "",
        deleted_users=had_users and not personal,
        from_event_log=pc.sum(live["impressions"]).as_py() or 0,
    )


def forget(parts: Parts, user_id: str) -> None:
    """Delete a user's features, and never write any again. The event log keeps the user's events.

    Raises:
        FeaturesUnavailableError: The feature store does not answer: call it again.
    """
    parts.features.forget(user_id)


def _with_users(parts: Parts, had_users: bool, personal: bool | None) -> tuple[bool, list[str]]:
    """Whether users get features, and the versions in use that need them although the recipe is not personal."""
    if not had_users or personal is not False:
        return had_users if personal is None else personal, []
    from immr.loop.rank import personal_in_use

    needed_by = personal_in_use(parts)
    return bool(needed_by), needed_by


def _without_impressions(stats: pa.Table) -> int:
    import pyarrow.compute as pc

    return int(pc.sum(pc.equal(stats["impressions_7d"], 0)).as_py() or 0)


def _use(
    log: _ClickLog, training_set: TrainingSet, until: datetime, in_event_log: Path | None = None
) -> tuple[TableUse, ...]:
    """What became of the rows of each table of the click log."""
    import pyarrow as pa

    until = until.astimezone(UTC).replace(tzinfo=None)
    values = {
        "since": until - WINDOW,
        "until": until,
        "impressions": str(log.impressions),
        "of_bots": str(log.queries_of_bots),
        **_REASONS,
    }
    with database() as base:
        base.register("items", pa.table({"item_id": pa.array(sorted(training_set.item_ids), pa.string())}))
        sql = _FATES.format(in_event_log=_ids_in(in_event_log, values))
        fates = dict(base.execute(sql, values).fetchall())
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
    import pyarrow.parquet as pq

    with TemporaryDirectory(prefix="immr-click-log-") as scratch:
        folder = Path(scratch)
        shop = Shop.of(data)
        shown = shop.table(IMPRESSIONS)
        assert shown is not None, "impressions are not optional"
        admitted = {IMPRESSIONS.name: admit_table(shown, folder)}
        impressions = folder / "impressions.parquet"
        newest = LoggedQueries(impressions).newest()
        assert newest is not None, "admission refuses a table without valid rows"
        of_bots, asked_file = folder / "of_bots.parquet", None
        if asked := shop.table(QUERIES, optional=True):
            admitted[QUERIES.name] = admit_table(asked, folder)
            asked_file = folder / "queries.parquet"
            with elapsed("finding bots"):
                LoggedQueries.counted(
                    impressions, asked_file, newest - WINDOW, folder / "week.parquet"
                ).write_those_of_bots(of_bots)
        else:
            pq.write_table(pa.table({"query_id": pa.array([], pa.string())}), of_bots)
        yield _ClickLog(impressions, asked_file, newest, of_bots, admitted)


@contextmanager
def _logged(events: EventLog, since: datetime) -> Iterator[LoggedQueries]:
    """The queries of the event log."""
    from immr.events.sink import on_disk

    with on_disk(events, since, "queries") as files:
        yield LoggedQueries(Path(files["queries"].path))


def _ids_in(queries: Path | None, values: dict[str, Any]) -> str:
    """A subquery with the query_ids in a file, whose name is added to the values; none without a file."""
    if queries is None:
        return "SELECT NULL::VARCHAR WHERE false"
    values["ids"] = str(queries)
    return "SELECT query_id FROM read_parquet($ids)"


def _clicked_in_both(log: _ClickLog, events: EventLog, now: datetime) -> pa.Table:
    """Clicks by user of the last 30 days, those of queries in both logs once."""
    import pyarrow as pa

    since = now - USER_WINDOW + _MICROSECOND
    with _logged(events, since) as queries:
        live = events.recent_clicks(USER_CLICKS, MAX_CLICKS, since, queries.bots())
        return pa.concat_tables([live, _clicked_in(log, now, queries.file).cast(live.schema)])


def _clicked_in(log: _ClickLog, until: datetime, without: Path | None = None) -> pa.Table:
    """Clicks by user in the click log; none without a table of queries.

    Args:
        log: With all its clicks.
        until: End of the 30 days.
        without: A file with the query_id of queries to leave out.
    """
    import pyarrow as pa

    if log.queries is None:
        return CLICKS_BY_USER.empty_table()
    since = until - USER_WINDOW
    file = log.impressions.with_name("month.parquet")
    bots = LoggedQueries.counted(log.impressions, log.queries, since, file).bots()
    values = {"since": since, "impressions": str(log.impressions), "queries": str(log.queries)}
    values |= {"per_user": USER_CLICKS, "most": MAX_CLICKS, "anonymous": ANONYMOUS}
    with database() as base:
        base.register("bots", pa.table({"user_id": pa.array(bots, pa.string())}))
        sql = CLICKED_IN_LOG.format(without=_ids_in(without, values))
        found: pa.Table = base.sql(sql, params=values).to_arrow_table()
    return found.cast(CLICKS_BY_USER)


def _live_counts(events: EventLog, since: datetime, bots: list[str]) -> pa.Table:
    import pyarrow as pa

    counted = events.summed_by("item_id", since, without_users=bots)
    columns = [[c.of for c in counted], [c.impressions for c in counted], [c.clicks for c in counted]]
    return pa.table(columns, schema=COUNTS_SCHEMA)
