"""Queries of the click log and of the event log, each in a Parquet file with a row per query: never all in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from immr.readout.bots import DEFAULT_BOT_POLICY, mark_bots
from immr.storage.database import database, quoted

if TYPE_CHECKING:
    import duckdb

_QUERIES_OF_LOG = """COPY (
    SELECT query_id, queries.user_id, make_timestamp(epoch_us(any_value(queries.ts))) AS ts,
        count(*) FILTER (WHERE clicked) AS clicks
    FROM read_parquet($impressions) AS shown JOIN read_parquet($queries) AS queries USING (query_id)
    WHERE shown.ts > $since
    GROUP BY query_id, queries.user_id
) TO {file} (FORMAT parquet)"""


@dataclass(frozen=True)
class LoggedQueries:
    """A file with columns `query_id`, `user_id`, `ts` and `clicks`, and perhaps others."""

    file: Path

    @classmethod
    def counted(cls, impressions: Path, queries: Path, since: datetime, file: Path) -> LoggedQueries:
        """Write the file from a click log.

        Args:
            impressions: Its valid impressions.
            queries: Its valid queries, which have the user ids.
            since: Only impressions after this time.
            file: To write.
        """
        values = {"impressions": str(impressions), "queries": str(queries), "since": since}
        with database() as base:
            base.execute(_QUERIES_OF_LOG.format(file=quoted(file)), values)
        return cls(file)

    def bots(self) -> list[str]:
        """User ids, by the readout's rules."""
        with self._marked() as base:
            return [user for (user,) in base.execute("SELECT user_id FROM bots").fetchall()]

    def write_those_of_bots(self, file: Path) -> Path:
        """Write a file with the column `query_id`."""
        with self._marked() as base:
            found = "SELECT query_id FROM queries SEMI JOIN bots USING (user_id)"
            base.execute(f"COPY ({found}) TO {quoted(file)} (FORMAT parquet)")
        return file

    def newest(self) -> datetime | None:
        """The time of the last query, with its zone; None without queries."""
        with database() as base:
            [(newest_us,)] = base.execute(
                "SELECT max(epoch_us(ts)) FROM read_parquet($file)", {"file": str(self.file)}
            ).fetchall()
        newest: datetime | None = pa.scalar(newest_us, pa.timestamp("us", "UTC")).as_py()
        return newest

    @contextmanager
    def _marked(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with database() as base:
            base.execute(f"CREATE VIEW queries AS FROM read_parquet({quoted(self.file)})")
            mark_bots(base, DEFAULT_BOT_POLICY)
            yield base
