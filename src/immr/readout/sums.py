"""Sums events per user, in DuckDB: a hundred million impressions never become Python objects.

Impressions are summed up by query. Bots and foreign versions are left out. Queries are summed up by user.
A query that another variant had to answer counts for the variant that its user is assigned to (intention to
treat). Leaving it out would bias the comparison: hard photos fail more often, and get fewer clicks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from immr.errors import ExperimentError
from immr.experiment.definition import CHALLENGER, ENDED, HOLDOUT, Experiment
from immr.readout.bots import DEFAULT_BOT_POLICY, BotPolicy, Marked, left_out, mark_bots
from immr.readout.event_views import ASKED, ASKED_OPTIONAL, SHOWN, SHOWN_OPTIONAL, Relation, until_end, view
from immr.readout.user_moments import MAX_CLICK_WEIGHT, POSITION_BIAS
from immr.readout.variant_health import Health, health
from immr.storage.database import database

if TYPE_CHECKING:
    import duckdb


_DAY_US = 86_400e6

_OF_ROWS = {  # a search without impressions is a row in which `shown` is null
    "impressions": "count(*) FILTER (shown)",
    "clicks": "count(*) FILTER (clicked)",
    "orders": "count(*) FILTER (ordered)",
    "first_impressions": "count(*) FILTER (position = 1)",
    "first_clicks": "count(*) FILTER (position = 1 AND clicked)",
    "weighted_clicks": f"coalesce(sum(least(position ** {POSITION_BIAS}, {MAX_CLICK_WEIGHT}))"
    " FILTER (clicked AND position > 0), 0)",  # `least` ignores an unknown position
    "revenue": "coalesce(sum(amount) FILTER (ordered), 0)",
    "priced_orders": "count(amount) FILTER (ordered)",
}
_COUNTS = ("impressions", "clicks", "orders", "first_impressions", "first_clicks", "clicked_positions")
_SUMMED = (  # columns of `EventLog.by_query`
    dict.fromkeys(("query_id", "user_id", "variant", "model_version"), "VARCHAR")
    | {"ts": "TIMESTAMPTZ"}
    | dict.fromkeys(_COUNTS, "BIGINT")
    | {"revenue": "DOUBLE", "priced_orders": "BIGINT"}
)
_OF_SUMS = {name: f"coalesce(sum({name}), 0)" for name in _OF_ROWS}


def _summed(sums: Mapping[str, str]) -> str:
    types = dict.fromkeys(("weighted_clicks", "revenue"), "DOUBLE")
    return ", ".join(f"({sql})::{types.get(name, 'BIGINT')} AS {name}" for name, sql in sums.items())


# Each search adds a row without impressions, so that searches without results count as queries.
_QUERIES = """CREATE TEMP TABLE queries AS
    SELECT query_id, user_id, variant, model_version, min(ts) AS ts, {sums}
    FROM (SELECT * FROM {exposures}
        UNION ALL BY NAME SELECT query_id, user_id, variant, model_version, ts FROM asked)
    GROUP BY ALL"""

_EXPOSED = """CREATE TEMP VIEW exposed AS
    SELECT queries.*, (variant, model_version) IN (FROM variants) AS ours,
        (variant, model_version) IN (FROM own_versions)
            AND query_id NOT IN (SELECT query_id FROM fallbacks) AS own
    FROM queries ANTI JOIN bots USING (user_id)"""

# Users of the holdout, or of a challenger that has left the test, are expected.
_FOREIGN = f"""SELECT count(DISTINCT query_id) FROM exposed
    WHERE NOT ours AND variant NOT IN ('{HOLDOUT}', '{ENDED}')"""

# An interleaved query has one row per version and counts once.
_USERS = f"""SELECT variant, user_id, count({{each}} query_id) AS queries,
        count({{each}} query_id) FILTER (clicks > 0) AS queries_with_click,
        count({{each}} query_id) - count({{each}} query_id) FILTER (impressions > 0) AS queries_without_result,
        coalesce(sum(impressions) FILTER (own), 0)::BIGINT AS own_impressions,
        coalesce(sum(clicks) FILTER (own), 0)::BIGINT AS own_clicks,
        coalesce(bool_or(orders > 0), false)::BIGINT AS has_ordered,
        {_summed(_OF_SUMS)}, epoch_us(min(ts)) AS first_us, epoch_us(max(ts)) AS last_us
    FROM exposed WHERE ours GROUP BY variant, user_id"""

_WITH_BEFORE = f"""SELECT users.*, coalesce(seen.impressions, 0) AS impressions_before,
        coalesce(seen.clicks, 0) AS clicks_before, coalesce(seen.revenue, 0) AS revenue_before
    FROM ({_USERS}) users LEFT JOIN (
        SELECT user_id, sum(impressions)::BIGINT AS impressions, sum(clicks)::BIGINT AS clicks,
            sum(revenue) AS revenue
        FROM before GROUP BY user_id) seen USING (user_id)"""

# A query that showed items of one version only was not interleaved.
_DRAFTED = """WITH queries AS (
        SELECT user_id, query_id, coalesce(sum(clicks) FILTER (model_version = $champion), 0) AS champion,
            coalesce(sum(clicks) FILTER (model_version = $challenger), 0) AS challenger
        FROM exposed WHERE ours AND variant = 'challenger' AND impressions > 0 GROUP BY user_id, query_id
        HAVING count(DISTINCT model_version) = 2)
    SELECT user_id, count(*) AS queries, count(*) FILTER (challenger > champion) AS won,
        count(*) FILTER (challenger < champion) AS lost
    FROM queries GROUP BY user_id ORDER BY user_id"""

_RANKS = """WITH ranks AS (
        SELECT variant, model_version, position, count(*) AS impressions, count(*) FILTER (clicked) AS clicks
        FROM shown ANTI JOIN bots USING (user_id) WHERE position > 0 GROUP BY ALL)
    SELECT variant, position, sum(impressions)::BIGINT, sum(clicks)::BIGINT
    FROM ranks SEMI JOIN variants USING (variant, model_version)
    GROUP BY variant, position ORDER BY variant, position"""


class Rank(NamedTuple):
    """Impressions and clicks at one position in one variant."""

    variant: str
    position: int
    impressions: int
    clicks: int


Ranks: TypeAlias = Callable[[list[str], datetime | None], Sequence[Rank]]


@dataclass(frozen=True)
class Sums:
    """Everything a readout is computed from."""

    users: pa.Table  # one row per variant and user_id, with its sums; those before the test if they are known
    ranks: tuple[Rank, ...]
    bots: tuple[Marked, ...]
    health: tuple[Health, ...]
    fallback_queries: int
    foreign_queries: int
    days: float
    searches_known: bool
    drafted: pa.Table | None = None  # if interleaved, per user_id: queries, won and lost by the challenger


def sum_up(
    joined: Relation,
    experiment: Experiment,
    searches: Relation | None = None,
    before: Relation | None = None,
    policy: BotPolicy = DEFAULT_BOT_POLICY,
) -> Sums:
    """Sum up by user. Bots and versions outside the experiment are left out.

    Args:
        joined: Impressions with their clicks and orders; `position`, `ts` and `amount` are optional.
        experiment: Its variants and versions.
        searches: Searches with `fallback`; `took_ms` and `results` are needed for the health.
        before: Impressions from before the test.
        policy: Which users are bots.

    Raises:
        ExperimentError: a column or a file is missing.
    """
    with open_queries(joined, searches, experiment) as base:
        if before is not None:
            types = {"user_id": "VARCHAR", "clicked": "BOOLEAN"}
            view(base, "shown_before", before, types, {"amount": "DOUBLE"}, what="impressions before")
            base.execute(
                "CREATE VIEW before AS SELECT user_id, 1 AS impressions, clicked::INT AS clicks,"
                " coalesce(amount, 0) AS revenue FROM shown_before"
            )

        def ranks(bots: list[str]) -> Sequence[Rank]:
            return [Rank(*row) for row in base.execute(_RANKS).fetchall()]

        return _sums(base, experiment, policy, ranks, before is not None, searches is not None)


def sum_up_queries(
    queries: Relation,
    experiment: Experiment,
    searches: Relation,
    ranks: Ranks,
    before: Relation | None = None,
    policy: BotPolicy = DEFAULT_BOT_POLICY,
) -> Sums:
    """Sum up by user from queries that the event log has already summed up.

    Not for interleaving: the log does not separate the versions within a query.

    Args:
        queries: `EventLog.by_query` from the experiment's start.
        experiment: Its variants and versions.
        searches: `EventLog.searches` from the same time.
        ranks: Called with the bots' user ids and the end of a stopped test; returns impressions and clicks by
            variant and position of all other users until then.
        before: Queries from before the test.
        policy: Which users are bots.
    """
    with database() as base:
        for name, relation in (("ever_exposed", queries), ("before", before)):
            if relation is not None:
                view(base, f"{name}_summed", relation, _SUMMED, what="queries")
                base.execute(
                    f"CREATE VIEW {name} AS SELECT * RENAME (clicked_positions AS weighted_clicks) FROM {name}_summed"
                )
        view(base, "ever_asked", searches, ASKED, ASKED_OPTIONAL, what="searches")
        end = until_end(base, experiment, {"exposures": "ever_exposed", "asked": "ever_asked"})
        base.execute(_QUERIES.format(sums=_summed(_OF_SUMS), exposures="exposures"))
        return _sums(
            base, experiment, policy, lambda bots: ranks(bots, end), before is not None, searches_known=True
        )


def _sums(
    base: duckdb.DuckDBPyConnection,
    experiment: Experiment,
    policy: BotPolicy,
    ranks: Callable[[list[str]], Sequence[Rank]],
    before_known: bool,
    searches_known: bool,
) -> Sums:
    mark_bots(base, policy)
    leave_out(base, experiment)
    interleaved = _is_interleaved(experiment)
    sql = (_WITH_BEFORE if before_known else _USERS).format(each="DISTINCT" if interleaved else "")
    users = base.sql(sql).order("variant, user_id").to_arrow_table()
    return Sums(
        users=users,
        ranks=tuple(ranks(_bots(base))),
        bots=left_out(base),
        health=health(base, experiment),
        fallback_queries=_one(base, "SELECT count(*) FROM fallbacks")[0],
        foreign_queries=_one(base, _FOREIGN)[0],
        days=_days(users),
        searches_known=searches_known,
        drafted=_drafted(base, experiment) if interleaved else None,
    )


def _drafted(base: duckdb.DuckDBPyConnection, experiment: Experiment) -> pa.Table:
    versions = {side.name: side.model_version for side in experiment.variants}
    return base.sql(_DRAFTED, params=versions).to_arrow_table()


@contextmanager
def open_queries(
    joined: Relation, searches: Relation | None, experiment: Experiment | None = None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database with the views `shown` and `asked` and the table `queries`, until the end of a stopped test."""
    import duckdb

    with database() as base:
        view(base, "ever_shown", joined, SHOWN, SHOWN_OPTIONAL, what="impressions")
        nothing = pa.table({name: pa.array([], pa.string()) for name in ASKED})
        asked = nothing if searches is None else searches
        view(base, "ever_asked", asked, ASKED, ASKED_OPTIONAL, what="searches")
        until_end(base, experiment, {"shown": "ever_shown", "asked": "ever_asked"})
        try:
            base.execute(
                _QUERIES.format(sums=_summed(_OF_ROWS), exposures="(SELECT true AS shown, * FROM shown)")
            )
        except duckdb.ConversionException as error:
            raise ExperimentError(
                f"a column of the events has an unexpected type ({error}): use the types of the event log"
            ) from error
        yield base


def _bots(base: duckdb.DuckDBPyConnection) -> list[str]:
    return [user for (user,) in base.execute("SELECT user_id FROM bots ORDER BY user_id").fetchall()]


def leave_out(base: duckdb.DuckDBPyConnection, experiment: Experiment) -> None:
    """Make the tables `fallbacks`, `variants` and `own_versions` and the view `exposed`."""
    base.execute("CREATE TEMP TABLE fallbacks AS SELECT DISTINCT query_id FROM asked WHERE fallback")
    sides = [(side.name, side.model_version) for side in experiment.variants]
    pairs = {
        "variants": [(name, version) for name, _ in sides for _, version in sides],
        # Interleaving shows the challenger's users items of both versions.
        "own_versions": sides
        + [(CHALLENGER, version) for _, version in sides if _is_interleaved(experiment)],
    }
    for table, rows in pairs.items():
        base.execute(f"CREATE TEMP TABLE {table} (variant VARCHAR, model_version VARCHAR)")
        base.executemany(f"INSERT INTO {table} VALUES (?, ?)", rows)
    base.execute(_EXPOSED)


def _is_interleaved(experiment: Experiment) -> bool:
    return experiment.kind == "interleave" and experiment.challenger is not None


def _days(users: pa.Table) -> float:
    first, last = pc.min(users["first_us"]).as_py(), pc.max(users["last_us"]).as_py()
    return 0.0 if first is None else float(last - first) / _DAY_US


def _one(base: duckdb.DuckDBPyConnection, sql: str) -> tuple[Any, ...]:
    [row] = base.execute(sql).fetchall()
    return tuple(row)
