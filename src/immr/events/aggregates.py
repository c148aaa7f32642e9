"""What a page shows of an event log: sums that the log's own engine makes, never rows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal


@dataclass(frozen=True, slots=True)
class CtrBucket:
    """Impressions shown in one stretch of time, and those that were clicked."""

    start: datetime  # UTC, a whole multiple of the bucket since 1970
    variant: str
    model_version: str
    impressions: int
    clicks: int

    @property
    def ctr(self) -> float:
        """Clicks per impression."""
        return self.clicks / self.impressions


SummedBy = Literal["position", "item_id"]


@dataclass(frozen=True, slots=True)
class Counted:
    """Impressions of one variant and version at one position, or of one item, and those that were clicked."""

    variant: str
    model_version: str
    of: int | str  # the position, or the item's id
    impressions: int
    clicks: int


@dataclass(frozen=True, slots=True)
class Funnel:
    """From queries to orders in one variant; clicks and orders count impressions, each at most once."""

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
    """How long the searches of one variant took; percentiles by nearest rank."""

    variant: str
    searches: int
    p50_ms: float
    p99_ms: float
