"""Sums over an event log, computed by the log itself so that pages never load its rows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal


@dataclass(frozen=True, slots=True)
class CtrBucket:
    """Impressions and clicks of one variant and model version in one interval of time. Squares are summed by user."""

    start: datetime  # UTC, a multiple of the bucket length since 1970
    variant: str
    model_version: str
    impressions: int
    clicks: int
    impressions_squares: int
    clicks_squares: int
    products: int  # impressions × clicks


SummedBy = Literal["position", "item_id"]


@dataclass(frozen=True, slots=True)
class Counted:
    """Impressions and clicks of one variant and model version, at one position or for one item."""

    variant: str
    model_version: str
    of: int | str  # the position or the item_id
    impressions: int
    clicks: int


@dataclass(frozen=True, slots=True)
class Funnel:
    """The funnel from queries to orders of one variant; clicks and orders count each impression once."""

    variant: str
    queries: int
    zero_result_queries: int
    degraded_queries: int
    fallback_queries: int
    impressions: int
    clicks: int
    orders: int


@dataclass(frozen=True, slots=True)
class Latency:
    """Duration of the searches of one variant, with percentiles by nearest rank."""

    variant: str
    searches: int
    p50_ms: float
    p99_ms: float
