"""Bots and crawlers: detected by two rules, counted, and excluded.

The rules apply to a user's whole behaviour and are the same in all variants. One of them uses clicks, which a
variant may influence. So the number of bots is reported by variant: a difference is a finding in itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from immr.errors import ExperimentError

if TYPE_CHECKING:
    import duckdb

TOO_FAST = "too many queries in a minute"
NO_CLICK = "many queries without a click"


@dataclass(frozen=True, slots=True)
class BotPolicy:
    """When a user counts as a bot."""

    queries_per_minute: int = 30
    queries_without_click: int = 200

    def __post_init__(self) -> None:
        if self.queries_per_minute < 1 or self.queries_without_click < 1:
            raise ExperimentError("a limit of the bot policy is below 1 query: raise it")


DEFAULT_BOT_POLICY = BotPolicy()


@dataclass(frozen=True, slots=True)
class Marked:
    """Users marked by one rule in one variant."""

    variant: str
    rule: str
    users: int
    queries: int


def mark_bots(base: duckdb.DuckDBPyConnection, policy: BotPolicy) -> None:
    """Make the table `bots` (user_id, and the first rule that applies) from `queries`.

    Without timestamps only the second rule applies. Times exactly on a quarter of an hour are ignored: they are
    probably dates or hours, which put all queries of a user's day or hour into one minute.
    """
    base.execute(
        """CREATE TEMP TABLE bots AS
        WITH many AS (  -- few users have enough queries: the rest is skipped
            SELECT user_id FROM queries GROUP BY user_id HAVING count(*) >= least($fast, $silent)),
        theirs AS (SELECT * FROM queries SEMI JOIN many USING (user_id)),
        fast AS (
            SELECT user_id FROM theirs WHERE epoch_us(ts) % 900_000_000 <> 0
            GROUP BY user_id, epoch_us(ts) // 60_000_000
            HAVING count(DISTINCT query_id) >= $fast)
        SELECT DISTINCT user_id, $too_fast AS rule FROM fast
        UNION ALL
        SELECT user_id, $no_click FROM theirs ANTI JOIN fast USING (user_id) GROUP BY user_id
        HAVING count(DISTINCT query_id) >= $silent AND sum(clicks) = 0""",
        {
            "fast": policy.queries_per_minute,
            "silent": policy.queries_without_click,
            "too_fast": TOO_FAST,
            "no_click": NO_CLICK,
        },
    )


def left_out(base: duckdb.DuckDBPyConnection) -> tuple[Marked, ...]:
    """Users and queries excluded as bots, by variant and rule."""
    found = base.execute(
        """SELECT variant, rule, count(DISTINCT user_id), count(DISTINCT query_id)
        FROM queries JOIN bots USING (user_id) GROUP BY variant, rule ORDER BY variant, rule"""
    )
    return tuple(Marked(*row) for row in found.fetchall())
