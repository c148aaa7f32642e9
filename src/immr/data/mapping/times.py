"""Times as shops write them: `31.12.2025 23:59`, local times, seconds or milliseconds since 1970."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pyarrow as pa
import pyarrow.compute as pc

from immr.data.column_types import (
    NUMBER,
    TIME_WITH_ZONE,
    UNITS_PER_DAY,
    UNREADABLE,
    distant_times,
    iso_times,
    moments_of,
)
from immr.data.contract import TIMESTAMP
from immr.data.mapping.month_names import with_month_numbers

_DAYS_WITH_MONTH_NAMES = ("%d. %B %Y", "%d %B %Y", "%B %d, %Y", "%d-%b-%Y")
FORMATS = (
    *(
        "%d.%m.%Y %H:%M:%S",
        "%d.%m.%Y %H:%M",
        "%d.%m.%Y",
        "%d.%m.%y, %H:%M",
        "%d/%m/%Y %H:%M:%S",
        "%d/%m/%Y %H:%M",
        "%d/%m/%Y",
    ),
    *(
        "%m/%d/%Y %H:%M:%S",
        "%m/%d/%Y %I:%M %p",
        "%m/%d/%Y",
        "%m/%d/%y, %I:%M %p",
        "%Y/%m/%d %H:%M:%S",
        "%Y/%m/%d %H:%M",
        "%Y/%m/%d",
    ),
    "%d/%b/%Y:%H:%M:%S %z",  # of web servers' logs
    *("%a, %d %b %Y %H:%M:%S %z", "%a, %d %b %Y %H:%M:%S GMT"),  # of feeds and HTTP
    *(f"{day}{time}" for day in _DAYS_WITH_MONTH_NAMES for time in ("", ", %H:%M", " %H:%M")),
    *("%Y年%m月%d日 %H:%M", "%Y年%m月%d日", "%Y%m%d"),
)
"""Those that a sample is tried with."""


def read_times(values: pa.Array, pattern: str = "", zone: str = "", unit: str = "") -> pa.Array:
    """Moments, as timestamps in UTC or as ISO 8601 text.

    A local time that occurs twice, when clocks are set back, is the first of the two. One that is skipped
    when they are set forward is the moment after.

    Args:
        values: text, timestamps, dates, or numbers if there is a `unit`.
        pattern: of text, as in strptime; by default ISO 8601.
        zone: of times without one; by default UTC.
        unit: what numbers count since 1970: s, ms, us or ns.

    Returns:
        `UNREADABLE` where there is no such time.

    Raises:
        ValueError: the zone is unknown.
    """
    try:
        local = ZoneInfo(zone or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:  # OSError: a folder of zones, as Europe
        raise ValueError(f"there is no time zone {zone!r}") from error
    if unit:
        moments = _counted(values, unit)
    elif _is_text(values):
        moments = _parsed(pc.utf8_trim_whitespace(values), pattern, local)
    elif pa.types.is_timestamp(values.type) and values.type.tz is None and zone:
        moments = _localized(values.to_pandas(), local)
    elif pa.types.is_date(values.type) and zone:
        moments = _localized(values.cast(pa.timestamp("ms")).to_pandas(), local)
    else:
        return values
    texts = pc.fill_null(moments.cast(pa.string()), UNREADABLE)
    given = pc.is_valid(values)
    if _is_text(values):
        given = pc.and_(given, pc.not_equal(pc.utf8_trim_whitespace(values), ""))
    elif pa.types.is_floating(values.type):
        given = pc.and_(given, pc.invert(pc.is_nan(values)))
    return pc.if_else(pc.fill_null(given, False), texts, None)


def _parsed(texts: pa.Array, pattern: str, local: ZoneInfo) -> pa.Array:
    import pandas as pd

    if pattern:
        texts, pattern = with_month_numbers(texts, pattern)
        found = pd.to_datetime(texts.to_pandas(), format=pattern, errors="coerce", utc="%z" in pattern)
        return _utc(found) if "%z" in pattern else _localized(found, local)
    texts = iso_times(texts)
    series = texts.to_pandas()
    zoned = pc.fill_null(pc.match_substring_regex(texts, TIME_WITH_ZONE), False)
    parsed = [
        pd.to_datetime(part, format="ISO8601", errors="coerce", utc=utc)
        for part, utc in ((series.where(zoned.to_pandas()), True), (series.where(~zoned.to_pandas()), False))
    ]
    return pc.coalesce(_utc(parsed[0]), _localized(parsed[1], local), distant_times(texts))


def _localized(naive: Any, local: ZoneInfo) -> pa.Array:
    import numpy as np

    first = np.ones(len(naive), dtype=bool)  # summer time, which ends at the change
    return _utc(naive.dt.tz_localize(local, ambiguous=first, nonexistent="shift_forward"))


def _utc(moments: Any) -> pa.Array:
    return pa.array(moments.dt.tz_convert("UTC").dt.as_unit("us"), TIMESTAMP, from_pandas=True)


def _counted(values: pa.Array, unit: str) -> pa.Array:
    """Null for what is not a number, or is outside the years 1 to 9999."""
    if _is_text(values):
        texts = pc.utf8_trim_whitespace(values)
        is_whole = pc.fill_null(pc.match_substring_regex(texts, r"^[+-]?\d{1,18}$"), False)
        whole = moments_of(pc.if_else(is_whole, texts, None).cast(pa.int64()), UNITS_PER_DAY[unit])
        is_number = pc.fill_null(pc.match_substring_regex(texts, NUMBER), False)
        return pc.coalesce(whole, _fractional(pc.if_else(is_number, texts, None).cast(pa.float64()), unit))
    if pa.types.is_integer(values.type) and values.type != pa.uint64():
        return moments_of(values.cast(pa.int64()), UNITS_PER_DAY[unit])
    return _fractional(pc.cast(values, pa.float64(), safe=False), unit)


def _fractional(numbers: pa.Array, unit: str) -> pa.Array:
    """To the microsecond, which a double holds in each unit until the year 2255."""
    per_day = UNITS_PER_DAY["us"]
    counts = pc.round(pc.multiply(numbers, per_day / UNITS_PER_DAY[unit]))
    largest = float(2**62)
    fits = pc.fill_null(pc.and_(pc.greater(counts, -largest), pc.less(counts, largest)), False)
    return moments_of(pc.if_else(fits, counts, None).cast(pa.int64()), per_day)


def _is_text(values: pa.Array) -> bool:
    return bool(pa.types.is_string(values.type) or pa.types.is_large_string(values.type))
