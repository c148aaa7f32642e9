"""Bots and crawlers, known by rules: they search as no shopper does. Marked, counted and left out.

The rules are the same in all variants and look at the whole user. One looks at clicks, which a variant may
change, so the number marked is shown by variant: a difference there is a finding about the variant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from immr.errors import ExperimentError

if TYPE_CHECKING:
    import duckdb

TOO_FAST = "too many queries in a minute"
NO_CLICK = "very many queries, no click"


@dataclass(frozen=True, slots=True)
class BotPolicy:
    """From where on a user is none."""

    queries_per_minute: int = 30
    queries_without_click: int = 200

    def __post_init__(self) -> None:
        if self.queries_per_minute < 1 or self.queries_without_click < 1:
            raise ExperimentError("a bot needs at least one query: raise the limits of the bot policy")


DEFAULT_BOT_POLICY = BotPolicy()


@dataclass(frozen=True, slots=True)
class Marked:
    """Users that one rule marked in one variant."""

    variant: str
    rule: str
    users: int
    queries: int


def mark_bots(base: duckdb.DuckDBPyConnection, policy: BotPolicy) -> None:
    """Make the table `bots` (user_id, rule, the first that holds) from `queries`.

    Without times only the second rule works.
    """
    base.execute(
        """CREATE TEMP TABLE bots AS
        WITH many AS (  -- few users can be bots at all: only their queries are looked at
            SELECT user_id FROM queries GROUP BY user_id HAVING count(*) >= least($fast, $silent)),
        theirs AS (SELECT * FROM queries SEMI JOIN many USING (user_id)),
        fast AS (
            SELECT user_id FROM theirs WHERE ts IS NOT NULL GROUP BY user_id, epoch_us(ts) // 60_000_000
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
    """What `bots` takes away from `queries`, by variant and rule."""
    found = base.execute(
        """SELECT variant, rule, count(DISTINCT user_id), count(DISTINCT query_id)
        FROM queries JOIN bots USING (user_id) GROUP BY variant, rule ORDER BY variant, rule"""
    )
    return tuple(Marked(*row) for row in found.fetchall())
