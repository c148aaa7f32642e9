"""The tables of the SQLite event log and its queries; all sums are computed in SQL.

Times are whole microseconds since 1970 in UTC. Parameters: `:since` and `:window`, in microseconds.
"""

from __future__ import annotations

from immr.events.query_ids import ANONYMOUS

TABLES = (
    "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)",
    """CREATE TABLE IF NOT EXISTS searches (
        query_id TEXT PRIMARY KEY, user_id TEXT NOT NULL, ts INTEGER NOT NULL, variant TEXT NOT NULL,
        model_version TEXT NOT NULL, took_ms REAL NOT NULL, results INTEGER NOT NULL,
        degraded INTEGER NOT NULL, fallback INTEGER NOT NULL, context TEXT NOT NULL DEFAULT '') WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS impressions (
        query_id TEXT NOT NULL, item_id TEXT NOT NULL, position INTEGER NOT NULL, user_id TEXT NOT NULL,
        variant TEXT NOT NULL, model_version TEXT NOT NULL, ts INTEGER NOT NULL,
        PRIMARY KEY (query_id, item_id, position)) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS clicks (
        event_id TEXT PRIMARY KEY, type TEXT NOT NULL, query_id TEXT NOT NULL, item_id TEXT NOT NULL,
        ts INTEGER NOT NULL, amount REAL) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS searches_by_ts ON searches (ts)",
    "CREATE INDEX IF NOT EXISTS impressions_by_ts ON impressions (ts)",
    "CREATE INDEX IF NOT EXISTS clicks_by_impression ON clicks (query_id, item_id, type, ts)",
)

_WAS_CLICKED = """EXISTS (SELECT 1 FROM clicks c WHERE c.query_id = i.query_id AND c.item_id = i.item_id
    AND c.type IN ('click', 'order') AND c.ts <= i.ts + :window)"""
_WAS_ORDERED = """EXISTS (SELECT 1 FROM clicks c WHERE c.query_id = i.query_id AND c.item_id = i.item_id
    AND c.type = 'order' AND c.ts <= i.ts + :window)"""
_AMOUNT = """(SELECT amount FROM clicks c WHERE c.query_id = i.query_id AND c.item_id = i.item_id
    AND c.type = 'order' AND c.ts <= i.ts + :window ORDER BY c.ts, c.event_id LIMIT 1)"""

JOINED = f"""SELECT query_id, user_id, item_id, position, {_WAS_CLICKED}, {_WAS_ORDERED}, {_AMOUNT}, variant,
        model_version, ts
    FROM impressions i WHERE ts >= :since ORDER BY ts, query_id, position, item_id"""

MIGRATIONS = {
    1: "ALTER TABLE searches ADD COLUMN context TEXT NOT NULL DEFAULT ''",
    2: "ALTER TABLE clicks ADD COLUMN amount REAL",
}
"""From each older schema version to the next."""

SEARCHES = """SELECT query_id, user_id, ts, variant, model_version, took_ms, results, degraded, fallback, context
    FROM searches WHERE ts >= :since ORDER BY ts, query_id"""

CLICKS = """SELECT event_id, type, query_id, item_id, ts, amount
    FROM clicks WHERE ts >= :since ORDER BY ts, event_id"""

CTR_OVER_TIME = f"""SELECT start, variant, model_version, SUM(shown), SUM(clicks), SUM(shown * shown),
        SUM(clicks * clicks), SUM(shown * clicks)
    FROM (SELECT ts - ts % :bucket AS start, variant, model_version, user_id, COUNT(*) AS shown,
            SUM({_WAS_CLICKED}) AS clicks
        FROM impressions i WHERE ts >= :since GROUP BY start, variant, model_version, user_id)
    GROUP BY start, variant, model_version ORDER BY start, variant, model_version"""

_SHOWN = (
    "SELECT ts FROM impressions WHERE ts >= :since AND variant NOT IN (SELECT value FROM json_each(:without))"
)
PERIOD = (
    f"SELECT ({_SHOWN} ORDER BY ts LIMIT 1), ({_SHOWN} ORDER BY ts DESC LIMIT 1)"  # by the index of times
)

FUNNEL = f"""WITH shown AS (
        SELECT variant, COUNT(*) AS impressions, SUM({_WAS_CLICKED}) AS clicks,
            SUM({_WAS_ORDERED}) AS orders
        FROM impressions i WHERE ts >= :since GROUP BY variant),
    searched AS (
        SELECT variant, COUNT(*) AS queries, SUM(results = 0) AS zero, SUM(degraded) AS degraded,
            SUM(fallback) AS fallback
        FROM searches WHERE ts >= :since GROUP BY variant)
    SELECT variant, COALESCE(queries, 0), COALESCE(zero, 0), COALESCE(degraded, 0), COALESCE(fallback, 0),
        COALESCE(impressions, 0), COALESCE(clicks, 0), COALESCE(orders, 0)
    FROM (SELECT variant FROM searched UNION SELECT variant FROM shown)
    LEFT JOIN searched USING (variant) LEFT JOIN shown USING (variant) ORDER BY variant"""

LATENCY = """WITH ranked AS (
        SELECT variant, took_ms, ROW_NUMBER() OVER (PARTITION BY variant ORDER BY took_ms) AS place,
            COUNT(*) OVER (PARTITION BY variant) AS n
        FROM searches WHERE ts >= :since)
    SELECT variant, n, MAX(CASE WHEN place = (n * 50 + 99) / 100 THEN took_ms END),
        MAX(CASE WHEN place = (n * 99 + 99) / 100 THEN took_ms END)
    FROM ranked GROUP BY variant, n ORDER BY variant"""

# Clicks are few compared with impressions, so the clicked impressions are found from the clicks. The + keeps
# SQLite from using the index by time for that. A query has one user, variant and version, so grouping by its
# id alone can follow the primary key.
_CLICKED_IMPRESSIONS = f"""(SELECT i.*, click_ts <= i.ts + :window AS clicked,
        coalesce(order_ts <= i.ts + :window, 0) AS ordered,
        CASE WHEN order_ts <= i.ts + :window THEN {_AMOUNT} END AS amount
    FROM (SELECT query_id, item_id, MIN(ts) AS click_ts, MIN(CASE WHEN type = 'order' THEN ts END) AS order_ts
        FROM clicks GROUP BY query_id, item_id)
    CROSS JOIN impressions i USING (query_id, item_id) WHERE +i.ts >= :since AND clicked)"""

RECENT_CLICKS = f"""SELECT user_id, query_id, item_id, ts FROM (
        SELECT *, ROW_NUMBER() OVER (PARTITION BY user_id ORDER BY ts DESC, query_id, item_id) AS place
        FROM (SELECT DISTINCT user_id, query_id, item_id, ts FROM {_CLICKED_IMPRESSIONS}
            WHERE user_id NOT IN (SELECT value FROM json_each(:without))
                AND user_id <> '{ANONYMOUS}' || query_id))
    WHERE place <= :per_user ORDER BY ts DESC, query_id, item_id LIMIT :most"""

BY_QUERY = f"""WITH shown AS (
        SELECT query_id, user_id, variant, model_version, MIN(ts) AS ts, COUNT(*) AS impressions,
            SUM(position = 1) AS first
        FROM impressions WHERE ts >= :since GROUP BY query_id),
    sums AS (
        SELECT query_id, COUNT(*) AS clicks, SUM(ordered) AS orders, SUM(position = 1) AS first_clicks,
            SUM(MIN(position, 10)) AS positions, SUM(amount) AS revenue, COUNT(amount) AS priced
        FROM {_CLICKED_IMPRESSIONS} GROUP BY query_id)
    SELECT query_id, user_id, variant, model_version, ts, impressions,
        coalesce(clicks, 0), coalesce(orders, 0), first, coalesce(first_clicks, 0), coalesce(positions, 0),
        coalesce(revenue, 0.0), coalesce(priced, 0)
    FROM shown LEFT JOIN sums USING (query_id)"""

_SUMMED_BY = f"""SELECT variant, model_version, {{what}}, SUM(shown), SUM(clicks) FROM (
        SELECT variant, model_version, {{what}}, COUNT(*) AS shown, 0 AS clicks
        FROM impressions
        WHERE ts BETWEEN :since AND :until AND user_id NOT IN (SELECT value FROM json_each(:without))
        GROUP BY variant, model_version, {{what}}
        UNION ALL
        SELECT variant, model_version, {{what}}, 0, COUNT(*)
        FROM {_CLICKED_IMPRESSIONS}
        WHERE ts <= :until AND user_id NOT IN (SELECT value FROM json_each(:without))
        GROUP BY variant, model_version, {{what}})
    GROUP BY variant, model_version, {{what}} ORDER BY variant, model_version, {{what}}"""

SUMMED_BY = {what: _SUMMED_BY.format(what=what) for what in ("position", "item_id")}
