"""The tables of the PostgreSQL event log, and its queries; all sums are computed in SQL.

Parameters: `since`, a time, and `window`, an interval. Times are returned as whole microseconds since 1970.
"""

from __future__ import annotations

from immr.events.query_ids import ANONYMOUS

TABLES = """
CREATE TABLE schema_version (version integer NOT NULL);
CREATE TABLE searches (
    query_id text PRIMARY KEY, user_id text NOT NULL, ts timestamptz NOT NULL, variant text NOT NULL,
    model_version text NOT NULL, took_ms double precision NOT NULL, results bigint NOT NULL,
    degraded boolean NOT NULL, fallback boolean NOT NULL, context text NOT NULL DEFAULT '');
CREATE TABLE impressions (
    query_id text NOT NULL, item_id text NOT NULL, position bigint NOT NULL, user_id text NOT NULL,
    variant text NOT NULL, model_version text NOT NULL, ts timestamptz NOT NULL,
    PRIMARY KEY (query_id, item_id, position));
CREATE TABLE clicks (
    event_id text PRIMARY KEY, type text NOT NULL, query_id text NOT NULL, item_id text NOT NULL,
    ts timestamptz NOT NULL, amount double precision);
CREATE INDEX searches_by_ts ON searches (ts);
CREATE INDEX impressions_by_ts ON impressions (ts);
CREATE INDEX clicks_by_query ON clicks (query_id);
"""

MIGRATIONS = {1: "ALTER TABLE clicks ADD COLUMN amount double precision"}
"""From each older schema version to the next. A gateway of the older release may keep writing meanwhile."""

RECORD_SEARCHES = """INSERT INTO searches
    SELECT * FROM unnest(%s::text[], %s::text[], %s::timestamptz[], %s::text[], %s::text[],
        %s::double precision[], %s::bigint[], %s::boolean[], %s::boolean[], %s::text[])
    ON CONFLICT DO NOTHING"""
"""One array for each column of the table, in order; so too below."""

RECORD_IMPRESSIONS = """INSERT INTO impressions
    SELECT * FROM unnest(%s::text[], %s::text[], %s::bigint[], %s::text[], %s::text[], %s::text[],
        %s::timestamptz[])
    ON CONFLICT DO NOTHING"""

RECORD_CLICKS = """INSERT INTO clicks
    SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::timestamptz[],
        %s::double precision[])
    ON CONFLICT DO NOTHING RETURNING event_id"""


def _microseconds(column: str) -> str:
    return f"(extract(epoch FROM {column}) * 1000000)::bigint"


# Clicks are joined by query first, so that a short period does not read the clicks of all time.
_SHOWN = """shown AS (
        SELECT i.*, coalesce(click_ts <= i.ts + %(window)s, false) AS clicked,
            coalesce(order_ts <= i.ts + %(window)s, false) AS ordered,
            CASE WHEN order_ts <= i.ts + %(window)s THEN first_amount END AS amount
        FROM impressions i LEFT JOIN (
            SELECT query_id, item_id, min(ts) AS click_ts, min(ts) FILTER (WHERE type = 'order') AS order_ts,
                (array_agg(amount ORDER BY ts, event_id) FILTER (WHERE type = 'order'))[1] AS first_amount
            FROM clicks
            WHERE query_id IN (SELECT query_id FROM impressions WHERE ts >= %(since)s)
            GROUP BY query_id, item_id) c USING (query_id, item_id)
        WHERE i.ts >= %(since)s)"""

JOINED = f"""WITH {_SHOWN}
    SELECT query_id, user_id, item_id, position, clicked, ordered, amount, variant, model_version,
        {_microseconds("ts")}
    FROM shown ORDER BY ts, query_id COLLATE "C", position, item_id COLLATE "C" """

SEARCHES = f"""SELECT query_id, user_id, {_microseconds("ts")}, variant, model_version, took_ms, results,
        degraded, fallback, context
    FROM searches WHERE ts >= %(since)s ORDER BY ts, query_id COLLATE "C" """

CLICKS = f"""SELECT event_id, type, query_id, item_id, {_microseconds("ts")}, amount
    FROM clicks WHERE ts >= %(since)s ORDER BY ts, event_id COLLATE "C" """

RECENT_CLICKS = f"""WITH {_SHOWN}
    SELECT user_id, query_id, item_id, {_microseconds("ts")} FROM (
        SELECT *, row_number() OVER (PARTITION BY user_id ORDER BY ts DESC, query_id, item_id) AS place
        FROM (SELECT DISTINCT user_id, query_id, item_id, ts FROM shown
            WHERE clicked AND user_id <> ALL(%(without)s::text[])
                AND user_id <> '{ANONYMOUS}' || query_id) clicks) ranked
    WHERE place <= %(per_user)s ORDER BY ts DESC, query_id COLLATE "C", item_id COLLATE "C" LIMIT %(most)s"""

BY_QUERY = f"""WITH {_SHOWN}
    SELECT query_id, min(user_id), min(variant), min(model_version), {_microseconds("min(ts)")}, count(*),
        count(*) FILTER (WHERE clicked), count(*) FILTER (WHERE ordered),
        count(*) FILTER (WHERE position = 1), count(*) FILTER (WHERE position = 1 AND clicked),
        coalesce(sum(least(position, 10)) FILTER (WHERE clicked), 0)::bigint,
        coalesce(sum(amount), 0), count(amount)
    FROM shown GROUP BY query_id"""

CTR_OVER_TIME = f"""WITH {_SHOWN}, timed AS (SELECT *, {_microseconds("ts")} AS at FROM shown)
    SELECT start, variant, model_version, sum(shown)::bigint, sum(clicks)::bigint, sum(shown * shown)::bigint,
        sum(clicks * clicks)::bigint, sum(shown * clicks)::bigint
    FROM (SELECT at - at %% %(bucket)s AS start, variant, model_version, user_id, count(*) AS shown,
            count(*) FILTER (WHERE clicked) AS clicks
        FROM timed GROUP BY start, variant, model_version, user_id) per_user
    GROUP BY start, variant, model_version
    ORDER BY start, variant COLLATE "C", model_version COLLATE "C" """

PERIOD = f"""SELECT {_microseconds("min(ts)")}, {_microseconds("max(ts)")} FROM impressions
    WHERE ts >= %(since)s AND variant <> ALL(%(without)s::text[])"""

FUNNEL = f"""WITH {_SHOWN}, summed AS (
        SELECT variant, count(*) AS impressions, count(*) FILTER (WHERE clicked) AS clicks,
            count(*) FILTER (WHERE ordered) AS orders
        FROM shown GROUP BY variant),
    searched AS (
        SELECT variant, count(*) AS queries, count(*) FILTER (WHERE results = 0) AS zero,
            count(*) FILTER (WHERE degraded) AS degraded, count(*) FILTER (WHERE fallback) AS fallback
        FROM searches WHERE ts >= %(since)s GROUP BY variant)
    SELECT variant, coalesce(queries, 0), coalesce(zero, 0), coalesce(degraded, 0), coalesce(fallback, 0),
        coalesce(impressions, 0), coalesce(clicks, 0), coalesce(orders, 0)
    FROM searched FULL JOIN summed USING (variant) ORDER BY variant COLLATE "C" """

LATENCY = """SELECT variant, count(*), percentile_disc(0.5) WITHIN GROUP (ORDER BY took_ms),
        percentile_disc(0.99) WITHIN GROUP (ORDER BY took_ms)
    FROM searches WHERE ts >= %(since)s GROUP BY variant ORDER BY variant COLLATE "C" """

_SUMMED_BY = f"""WITH {_SHOWN}
    SELECT variant, model_version, {{what}}, count(*), count(*) FILTER (WHERE clicked)
    FROM shown WHERE user_id <> ALL(%(without)s::text[]) AND {_microseconds("ts")} <= %(until)s
    GROUP BY variant, model_version, {{what}}
    ORDER BY variant COLLATE "C", model_version COLLATE "C", {{what}}{{collate}}"""

SUMMED_BY = {
    "position": _SUMMED_BY.format(what="position", collate=""),
    "item_id": _SUMMED_BY.format(what="item_id", collate=' COLLATE "C"'),
}
