"""What the SQLite log sums up itself, so that no impression becomes a row in Python.

Clicks are few beside impressions: what was clicked is looked up from them, not asked of each impression.
The + keeps the index of times out of that look-up. A query has one user, variant and version: grouping by its
id alone goes along the table as it lies.
"""

from __future__ import annotations

_CLICKED = """(SELECT i.*, click_ts <= i.ts + :window AS clicked,
        coalesce(order_ts <= i.ts + :window, 0) AS ordered
    FROM (SELECT query_id, item_id, MIN(ts) AS click_ts, MIN(CASE WHEN type = 'order' THEN ts END) AS order_ts
        FROM clicks GROUP BY query_id, item_id)
    CROSS JOIN impressions i USING (query_id, item_id) WHERE +i.ts >= :since AND clicked)"""

BY_QUERY = f"""WITH shown AS (
        SELECT query_id, user_id, variant, model_version, MIN(ts) AS ts, COUNT(*) AS impressions,
            SUM(position = 1) AS first
        FROM impressions WHERE ts >= :since GROUP BY query_id),
    sums AS (
        SELECT query_id, COUNT(*) AS clicks, SUM(ordered) AS orders, SUM(position = 1) AS first_clicks,
            SUM(MIN(position, 10)) AS positions
        FROM {_CLICKED} GROUP BY query_id)
    SELECT query_id, user_id, variant, model_version, ts, impressions,
        coalesce(clicks, 0), coalesce(orders, 0), first, coalesce(first_clicks, 0), coalesce(positions, 0)
    FROM shown LEFT JOIN sums USING (query_id)"""

_SUMMED_BY = f"""SELECT variant, model_version, {{what}}, SUM(shown), SUM(clicks) FROM (
        SELECT variant, model_version, {{what}}, COUNT(*) AS shown, 0 AS clicks
        FROM impressions WHERE ts >= :since AND user_id NOT IN (SELECT value FROM json_each(:without))
        GROUP BY variant, model_version, {{what}}
        UNION ALL
        SELECT variant, model_version, {{what}}, 0, COUNT(*)
        FROM {_CLICKED} WHERE user_id NOT IN (SELECT value FROM json_each(:without))
        GROUP BY variant, model_version, {{what}})
    GROUP BY variant, model_version, {{what}} ORDER BY variant, model_version, {{what}}"""

SUMMED_BY = {what: _SUMMED_BY.format(what=what) for what in ("position", "item_id")}
