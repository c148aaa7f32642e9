"""From events to sums of users, in DuckDB: a hundred million impressions never become rows in Python.

Impressions are summed up by query, then bots and what is not the experiment's are left out, then queries are
summed up by user. The statistics see users only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from immr.errors import ExperimentError
from immr.experiment.bots import DEFAULT_BOT_POLICY, BotPolicy, Marked, left_out, mark_bots
from immr.experiment.definition import Experiment
from immr.experiment.health import Health, health
from immr.experiment.users import BEFORE, MAX_CLICK_WEIGHT, POSITION_BIAS

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True, slots=True)
class Parquet:
    """Parquet files with the columns of the event log: a path, with `*` for many, and the time to read."""

    path: str
    since: datetime | None = None
    until: datetime | None = None  # not included


Relation: TypeAlias = pa.Table | Parquet
"""Where events are read from."""

_DAY_US = 86_400e6
_SHOWN = {
    "query_id": "VARCHAR",
    "user_id": "VARCHAR",
    "variant": "VARCHAR",
    "model_version": "VARCHAR",
    "clicked": "BOOLEAN",
    "ordered": "BOOLEAN",
}
_SHOWN_OPTIONAL = {"position": "BIGINT", "ts": "TIMESTAMPTZ"}
_ASKED = dict.fromkeys(("query_id", "user_id", "variant", "model_version"), "VARCHAR") | {
    "fallback": "BOOLEAN"
}
_ASKED_OPTIONAL = {"ts": "TIMESTAMPTZ", "took_ms": "DOUBLE", "results": "BIGINT"}

_QUERIES = f"""CREATE TEMP TABLE queries AS
    SELECT query_id, user_id, variant, model_version, min(ts) AS ts,
        sum(shown)::BIGINT AS impressions, sum(clicked::INT)::BIGINT AS clicks,
        sum(ordered::INT)::BIGINT AS orders,
        count(*) FILTER (position = 1) AS first_impressions,
        count(*) FILTER (position = 1 AND clicked) AS first_clicks,
        sum(CASE WHEN clicked THEN least(position ** {POSITION_BIAS}, {MAX_CLICK_WEIGHT}) ELSE 0 END)
            AS weighted_clicks
    FROM (
        SELECT query_id, user_id, variant, model_version, ts, 1 AS shown, clicked, ordered,
            coalesce(position, 0) AS position FROM shown
        UNION ALL  -- a row without impression for each search, so that those without results count
        SELECT query_id, user_id, variant, model_version, ts, 0, false, false, 0 FROM asked)
    GROUP BY ALL"""

_EXPOSED = """CREATE TEMP VIEW exposed AS
    SELECT queries.*, (variant, model_version) IN (FROM variants) AS ours
    FROM queries ANTI JOIN bots USING (user_id) ANTI JOIN fallbacks USING (query_id)"""

_USERS = """SELECT variant, user_id, count(*) AS queries,
        count(*) FILTER (clicks > 0) AS queries_with_click,
        count(*) FILTER (impressions = 0) AS queries_without_result,
        sum(impressions)::BIGINT AS impressions, sum(clicks)::BIGINT AS clicks, sum(orders)::BIGINT AS orders,
        sum(first_impressions)::BIGINT AS first_impressions, sum(first_clicks)::BIGINT AS first_clicks,
        sum(weighted_clicks) AS weighted_clicks, epoch_us(min(ts)) AS first_us, epoch_us(max(ts)) AS last_us
    FROM exposed WHERE ours GROUP BY variant, user_id"""

_WITH_BEFORE = f"""SELECT users.*, coalesce(seen.impressions, 0) AS {BEFORE[0]},
        coalesce(seen.clicks, 0) AS {BEFORE[1]}
    FROM ({_USERS}) users LEFT JOIN (
        SELECT user_id, count(*) AS impressions, count(*) FILTER (clicked) AS clicks
        FROM before GROUP BY user_id) seen USING (user_id)"""

_RANKS = """SELECT variant, position, count(*), count(*) FILTER (clicked)
    FROM shown SEMI JOIN variants USING (variant, model_version)
        ANTI JOIN bots USING (user_id) ANTI JOIN fallbacks USING (query_id)
    WHERE position > 0 GROUP BY variant, position ORDER BY variant, position"""


@dataclass(frozen=True)
class Sums:
    """All that a readout rests on."""

    users: pa.Table  # one row per variant and user_id with `users.COUNTS`, and `users.BEFORE` where known
    ranks: tuple[tuple[str, int, int, int], ...]  # variant, position, impressions, clicks
    bots: tuple[Marked, ...]
    health: tuple[Health, ...]
    fallback_queries: int
    foreign_queries: int
    days: float
    searches_known: bool


def sum_up(
    joined: Relation,
    experiment: Experiment,
    searches: Relation | None = None,
    before: Relation | None = None,
    policy: BotPolicy = DEFAULT_BOT_POLICY,
) -> Sums:
    """Sum up by user; bots, queries that another variant answered, and foreign versions are left out.

    Args:
        joined: Impressions with what came of them; `position` and `ts` may be missing.
        experiment: Its variants and versions.
        searches: With `fallback`; for the health with `took_ms` and `results`, too.
        before: Impressions of the time before the test.
        policy: Who is no shopper.

    Raises:
        ExperimentError: a column is missing, or a file is not there.
    """
    with _queries(joined, searches) as base:
        mark_bots(base, policy)
        _leave_out(base, experiment)
        if before is not None:
            _view(
                base,
                "before",
                before,
                {"user_id": "VARCHAR", "clicked": "BOOLEAN"},
                what="impressions before",
            )
        users = (
            base.sql(_USERS if before is None else _WITH_BEFORE).order("variant, user_id").to_arrow_table()
        )
        return Sums(
            users=users,
            ranks=tuple(base.execute(_RANKS).fetchall()),
            bots=left_out(base),
            health=health(base, experiment),
            fallback_queries=_one(base, "SELECT count(*) FROM fallbacks")[0],
            foreign_queries=_one(base, "SELECT count(DISTINCT query_id) FROM exposed WHERE NOT ours")[0],
            days=_days(users),
            searches_known=searches is not None,
        )


def bots_among(
    joined: Relation, searches: Relation | None, policy: BotPolicy = DEFAULT_BOT_POLICY
) -> list[str]:
    """Ids of users that are no shoppers.

    Raises:
        ExperimentError: a column is missing, or a file is not there.
    """
    with _queries(joined, searches) as base:
        mark_bots(base, policy)
        return [user for (user,) in base.execute("SELECT user_id FROM bots ORDER BY user_id").fetchall()]


def split_at_start(
    joined: Parquet, experiment: Experiment, reach: timedelta
) -> tuple[Parquet, Parquet | None]:
    """The test's own impressions, and what CUPED may use from so long before: `before_the_test` in files.

    Raises:
        ExperimentError: a file is not there, or is no event log's.
    """
    import duckdb

    if experiment.started is None or experiment.challenger is None:
        return joined, None
    start = experiment.started - reach
    with duckdb.connect() as base:
        _view(
            base,
            "early",
            Parquet(joined.path, start, experiment.started),
            _SHOWN,
            _SHOWN_OPTIONAL,
            what="impressions",
        )
        base.execute(
            "SELECT epoch_us(min(ts)) FROM early WHERE model_version = $version",
            {"version": experiment.challenger.model_version},
        )
        [(first,)] = base.fetchall()
    until = experiment.started if first is None else datetime.fromtimestamp(first / 1e6, UTC)
    return replace(joined, since=experiment.started), replace(joined, since=start, until=until)


@contextmanager
def _queries(joined: Relation, searches: Relation | None) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database with the views `shown` and `asked`, and the table `queries`."""
    import duckdb

    with duckdb.connect() as base:
        _view(base, "shown", joined, _SHOWN, _SHOWN_OPTIONAL, what="impressions")
        nothing = pa.table({name: pa.array([], pa.string()) for name in _ASKED})
        asked = nothing if searches is None else searches
        _view(base, "asked", asked, _ASKED, _ASKED_OPTIONAL, what="searches")
        try:
            base.execute(_QUERIES)
        except duckdb.ConversionException as error:
            raise ExperimentError(f"the events have other types than the event log's ({error})") from error
        yield base


def _leave_out(base: duckdb.DuckDBPyConnection, experiment: Experiment) -> None:
    base.execute("CREATE TEMP TABLE fallbacks AS SELECT DISTINCT query_id FROM asked WHERE fallback")
    base.execute("CREATE TEMP TABLE variants (variant VARCHAR, model_version VARCHAR)")
    sides = [(side.name, side.model_version) for side in experiment.variants]
    base.executemany("INSERT INTO variants VALUES (?, ?)", sides)
    base.execute(_EXPOSED)


def _view(
    base: duckdb.DuckDBPyConnection,
    name: str,
    relation: Relation,
    columns: dict[str, str],
    optional: dict[str, str] | None = None,
    *,
    what: str,
) -> None:
    """A view with these columns in these types; an optional one that is missing is null."""
    import duckdb

    source = f"{name}_source"
    if isinstance(relation, Parquet):
        try:
            base.execute(f"CREATE VIEW {source} AS {_scan(relation)}")
        except duckdb.Error as error:
            raise ExperimentError(f"the {what} in {relation.path} cannot be read ({error})") from error
    else:
        base.register(source, relation)
    there = {row[0] for row in base.execute(f"DESCRIBE {source}").fetchall()}
    if missing := [column for column in columns if column not in there]:
        raise ExperimentError(
            f"the table of {what} has no column {', '.join(missing)}: read it from the event log, or add it"
        )
    typed = [
        f"{column if column in there else 'NULL'}::{kind} AS {column}"
        for column, kind in (columns | (optional or {})).items()
    ]
    base.execute(f"CREATE VIEW {name} AS SELECT {', '.join(typed)} FROM {source}")


def _scan(files: Parquet) -> str:
    path = files.path.replace("'", "''")
    bounds = [
        f"ts {comparison} '{moment.isoformat()}'::TIMESTAMPTZ"
        for comparison, moment in ((">=", files.since), ("<", files.until))
        if moment is not None
    ]
    return f"FROM read_parquet('{path}')" + (f" WHERE {' AND '.join(bounds)}" if bounds else "")


def _days(users: pa.Table) -> float:
    first, last = pc.min(users["first_us"]).as_py(), pc.max(users["last_us"]).as_py()
    return 0.0 if first is None else float(last - first) / _DAY_US


def _one(base: duckdb.DuckDBPyConnection, sql: str) -> tuple[Any, ...]:
    [row] = base.execute(sql).fetchall()
    return tuple(row)
