"""From events to sums of users, in DuckDB: a hundred million impressions never become rows in Python.

Impressions are summed up by query, then bots and what is not the experiment's are left out, then queries are
summed up by user. The statistics see users only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from immr.errors import ExperimentError
from immr.experiment.definition import CHALLENGER, Experiment
from immr.readout.bots import DEFAULT_BOT_POLICY, BotPolicy, Marked, left_out, mark_bots
from immr.readout.health import Health, health
from immr.readout.relations import ASKED, ASKED_OPTIONAL, SHOWN, SHOWN_OPTIONAL, Relation, view
from immr.readout.users import BEFORE, MAX_CLICK_WEIGHT, POSITION_BIAS

if TYPE_CHECKING:
    import duckdb


_DAY_US = 86_400e6

_OF_ROWS = {  # an impression's row has `shown`; a search's has nothing but who asked, and when
    "impressions": "count(*) FILTER (shown)",
    "clicks": "count(*) FILTER (clicked)",
    "orders": "count(*) FILTER (ordered)",
    "first_impressions": "count(*) FILTER (position = 1)",
    "first_clicks": "count(*) FILTER (position = 1 AND clicked)",
    "weighted_clicks": f"coalesce(sum(least(position ** {POSITION_BIAS}, {MAX_CLICK_WEIGHT}))"
    " FILTER (clicked), 0)",
}
_OF_SUMS = {name: f"coalesce(sum({name}), 0)" for name in _OF_ROWS}


def _summed(sums: Mapping[str, str]) -> str:
    whole = {"weighted_clicks": "DOUBLE"}
    return ", ".join(f"({sql})::{whole.get(name, 'BIGINT')} AS {name}" for name, sql in sums.items())


# Every search adds a row without impressions, so that one without results counts as a query.
_QUERIES = """CREATE TEMP TABLE queries AS
    SELECT query_id, user_id, variant, model_version, min(ts) AS ts, {sums}
    FROM (SELECT * FROM {exposures}
        UNION ALL BY NAME SELECT query_id, user_id, variant, model_version, ts FROM asked)
    GROUP BY ALL"""

_EXPOSED = """CREATE TEMP VIEW exposed AS
    SELECT queries.*, (variant, model_version) IN (FROM variants) AS ours
    FROM queries ANTI JOIN bots USING (user_id) ANTI JOIN fallbacks USING (query_id)"""

# An interleaved query is there once for each version, and counts once.
_USERS = f"""SELECT variant, user_id, count({{each}} query_id) AS queries,
        count({{each}} query_id) FILTER (clicks > 0) AS queries_with_click,
        count({{each}} query_id) FILTER (impressions = 0) AS queries_without_result,
        {_summed(_OF_SUMS)}, epoch_us(min(ts)) AS first_us, epoch_us(max(ts)) AS last_us
    FROM exposed WHERE ours GROUP BY variant, user_id"""

_WITH_BEFORE = f"""SELECT users.*, coalesce(seen.impressions, 0) AS {BEFORE[0]},
        coalesce(seen.clicks, 0) AS {BEFORE[1]}
    FROM ({_USERS}) users LEFT JOIN (
        SELECT user_id, sum(impressions)::BIGINT AS impressions, sum(clicks)::BIGINT AS clicks
        FROM before GROUP BY user_id) seen USING (user_id)"""

# What showed no items of both versions was not interleaved.
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
        FROM shown ANTI JOIN bots USING (user_id) ANTI JOIN fallbacks USING (query_id)
        WHERE position > 0 GROUP BY ALL)
    SELECT variant, position, sum(impressions)::BIGINT, sum(clicks)::BIGINT
    FROM ranks SEMI JOIN variants USING (variant, model_version)
    GROUP BY variant, position ORDER BY variant, position"""


class Rank(NamedTuple):
    """What one position of one variant got."""

    variant: str
    position: int
    impressions: int
    clicks: int


@dataclass(frozen=True)
class Sums:
    """All that a readout rests on."""

    users: pa.Table  # one row per variant and user_id with `users.COUNTS`, and `users.BEFORE` where known
    ranks: tuple[Rank, ...]
    bots: tuple[Marked, ...]
    health: tuple[Health, ...]
    fallback_queries: int
    foreign_queries: int
    days: float
    searches_known: bool
    drafted: pa.Table | None = (
        None  # where interleaved: user_id, queries, and those the challenger won or lost
    )


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
        if before is not None:
            types = {"user_id": "VARCHAR", "clicked": "BOOLEAN"}
            view(base, "shown_before", before, types, what="impressions before")
            base.execute(
                "CREATE VIEW before AS "
                "SELECT user_id, 1 AS impressions, clicked::INT AS clicks FROM shown_before"
            )

        def ranks(bots: list[str]) -> Sequence[Rank]:
            return [Rank(*row) for row in base.execute(_RANKS).fetchall()]

        return _sums(base, experiment, policy, ranks, before is not None, searches is not None)


def sum_up_queries(
    queries: pa.Table,
    experiment: Experiment,
    searches: pa.Table,
    ranks: Callable[[list[str]], Sequence[Rank]],
    before: pa.Table | None = None,
    policy: BotPolicy = DEFAULT_BOT_POLICY,
) -> Sums:
    """The same from queries that the event log has summed up itself; not for an interleaved experiment.

    The log sums up a query whole, and does not say whose items were clicked.

    Args:
        queries: As `EventLog.by_query` gives them, from the experiment's start.
        experiment: Its variants and versions.
        searches: As `EventLog.searches` gives them, from the same time.
        ranks: Impressions and clicks by position of the experiment's variants, without these users.
        before: Queries of the time before the test.
        policy: Who is no shopper.
    """
    import duckdb

    with duckdb.connect(config={"preserve_insertion_order": False}) as base:
        for name, table in (("exposures", queries), ("before", before)):
            if table is not None:
                base.register(name, table.rename_columns({"clicked_positions": "weighted_clicks"}))
        view(base, "asked", searches, ASKED, ASKED_OPTIONAL, what="searches")
        base.execute(_QUERIES.format(sums=_summed(_OF_SUMS), exposures="exposures"))
        return _sums(base, experiment, policy, ranks, before is not None, searches_known=True)


def _sums(
    base: duckdb.DuckDBPyConnection,
    experiment: Experiment,
    policy: BotPolicy,
    ranks: Callable[[list[str]], Sequence[Rank]],
    before_known: bool,
    searches_known: bool,
) -> Sums:
    mark_bots(base, policy)
    _leave_out(base, experiment)
    interleaved = experiment.kind == "interleave" and experiment.challenger is not None
    sql = (_WITH_BEFORE if before_known else _USERS).format(each="DISTINCT" if interleaved else "")
    users = base.sql(sql).order("variant, user_id").to_arrow_table()
    return Sums(
        users=users,
        ranks=tuple(ranks(_bots(base))),
        bots=left_out(base),
        health=health(base, experiment),
        fallback_queries=_one(base, "SELECT count(*) FROM fallbacks")[0],
        foreign_queries=_one(base, "SELECT count(DISTINCT query_id) FROM exposed WHERE NOT ours")[0],
        days=_days(users),
        searches_known=searches_known,
        drafted=_drafted(base, experiment) if interleaved else None,
    )


def _drafted(base: duckdb.DuckDBPyConnection, experiment: Experiment) -> pa.Table:
    versions = {side.name: side.model_version for side in experiment.variants}
    return base.sql(_DRAFTED, params=versions).to_arrow_table()


def bots_among(
    joined: Relation, searches: Relation | None, policy: BotPolicy = DEFAULT_BOT_POLICY
) -> list[str]:
    """Ids of users that are no shoppers.

    Raises:
        ExperimentError: a column is missing, or a file is not there.
    """
    with _queries(joined, searches) as base:
        mark_bots(base, policy)
        return _bots(base)


@contextmanager
def _queries(joined: Relation, searches: Relation | None) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database with the views `shown` and `asked`, and the table `queries`."""
    import duckdb

    with duckdb.connect(config={"preserve_insertion_order": False}) as base:
        view(base, "shown", joined, SHOWN, SHOWN_OPTIONAL, what="impressions")
        nothing = pa.table({name: pa.array([], pa.string()) for name in ASKED})
        asked = nothing if searches is None else searches
        view(base, "asked", asked, ASKED, ASKED_OPTIONAL, what="searches")
        try:
            base.execute(
                _QUERIES.format(sums=_summed(_OF_ROWS), exposures="(SELECT true AS shown, * FROM shown)")
            )
        except duckdb.ConversionException as error:
            raise ExperimentError(f"the events have other types than the event log's ({error})") from error
        yield base


def _bots(base: duckdb.DuckDBPyConnection) -> list[str]:
    return [user for (user,) in base.execute("SELECT user_id FROM bots ORDER BY user_id").fetchall()]


def _leave_out(base: duckdb.DuckDBPyConnection, experiment: Experiment) -> None:
    base.execute("CREATE TEMP TABLE fallbacks AS SELECT DISTINCT query_id FROM asked WHERE fallback")
    base.execute("CREATE TEMP TABLE variants (variant VARCHAR, model_version VARCHAR)")
    sides = [(side.name, side.model_version) for side in experiment.variants]
    if experiment.kind == "interleave":  # these users are shown items of both
        sides.append((CHALLENGER, experiment.champion.model_version))
    base.executemany("INSERT INTO variants VALUES (?, ?)", sides)
    base.execute(_EXPOSED)


def _days(users: pa.Table) -> float:
    first, last = pc.min(users["first_us"]).as_py(), pc.max(users["last_us"]).as_py()
    return 0.0 if first is None else float(last - first) / _DAY_US


def _one(base: duckdb.DuckDBPyConnection, sql: str) -> tuple[Any, ...]:
    [row] = base.execute(sql).fetchall()
    return tuple(row)
