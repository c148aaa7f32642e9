"""Bots and crawlers: detected by two rules, counted, and excluded.

The rules apply to a user's whole behaviour and are the same in all variants. One of them uses clicks, which a
variant may influence. So the number of bots is reported by variant: a difference is a finding in itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from immr.data.time_steps import MINUTE_US, STEPS_US, step_of
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

    Without timestamps only the second rule applies. If all times of the log are rounded, to ten minutes for example,
    the first rule counts the queries of such a step, and its limit is that of as many minutes. Otherwise, times
    exactly on five minutes are ignored: some are probably dates or hours, which put many queries into one minute. If
    all of a user's times in a minute are exactly on it, a part of the log may be rounded to two, three or four
    minutes, and the limit is that of as many.
    """
    step_us = _step_us(base)
    base.execute(
        """CREATE TEMP TABLE bots AS
        WITH many AS (  -- few users have enough queries: the rest is skipped
            SELECT user_id FROM queries GROUP BY user_id HAVING count(*) >= least($fast, $silent)),
        theirs AS (SELECT * FROM queries SEMI JOIN many USING (user_id)),
        fast AS (
            SELECT user_id FROM (SELECT *, epoch_us(ts) // $step_us AS slot FROM theirs)
            WHERE $minutes > 1 OR epoch_us(ts) % 300_000_000 <> 0
            GROUP BY user_id, slot
            HAVING any_value(ts) IS NOT NULL AND count(DISTINCT query_id) >= $fast * CASE
                WHEN $is_rounded OR bool_or(epoch_us(ts) % 60_000_000 <> 0) THEN $minutes
                WHEN slot % 4 = 0 THEN 4 WHEN slot % 3 = 0 THEN 3 WHEN slot % 2 = 0 THEN 2 ELSE 1 END)
        SELECT DISTINCT user_id, $too_fast AS rule FROM fast
        UNION ALL
        SELECT user_id, $no_click FROM theirs ANTI JOIN fast USING (user_id) GROUP BY user_id
        HAVING count(DISTINCT query_id) >= $silent AND sum(clicks) = 0""",
        {
            "fast": policy.queries_per_minute,
            "minutes": max(step_us // MINUTE_US, 1),
            "step_us": max(step_us, MINUTE_US),
            "is_rounded": step_us > 0,
            "silent": policy.queries_without_click,
            "too_fast": TOO_FAST,
            "no_click": NO_CLICK,
        },
    )


def _step_us(base: duckdb.DuckDBPyConnection) -> int:
    multiples = ", ".join(f"count(*) FILTER (epoch_us(ts) % {step} = 0)" for step in STEPS_US)
    [(times, *counts)] = base.execute(f"SELECT count(ts), {multiples} FROM queries").fetchall()
    return step_of(counts, times)


def left_out(base: duckdb.DuckDBPyConnection) -> tuple[Marked, ...]:
    """Users and queries excluded as bots, by variant and rule."""
    found = base.execute(
        """SELECT variant, rule, count(DISTINCT user_id), count(DISTINCT query_id)
        FROM queries JOIN bots USING (user_id) GROUP BY variant, rule ORDER BY variant, rule"""
    )
    return tuple(Marked(*row) for row in found.fetchall())
