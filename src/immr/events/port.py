"""What the rest of IMMR asks of an event log."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

import pyarrow as pa

from immr.types import Click, Impression


class EventLog(Protocol):
    """An append-only log. Returning from a `record` means: it will not be lost."""

    def record_impressions(self, impressions: Sequence[Impression]) -> int:
        """Append; those already there (same query, item and position) are left out. Returns the new ones."""

    def record_clicks(self, clicks: Sequence[Click]) -> int:
        """Append clicks and orders; a repeated event_id is left out. Returns the new ones."""

    def joined(self, since: datetime | None = None) -> pa.Table:
        """Impressions with what came of them: the contract's `impressions` columns and user_id."""

    def close(self) -> None:
        """Flush and let go."""
