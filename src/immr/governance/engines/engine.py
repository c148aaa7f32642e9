"""The engine that governance's tables are computed on: the port, and which adapter a URL means."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from immr.errors import SettingsError
from immr.settings import query_of, without_credentials


class TableEngine(Protocol):
    """Takes tables in as Parquet, computes Ibis expressions, and gives tables out as Parquet.

    Nothing else is asked of it, so that tables are the same on every engine and none is held in memory.
    """

    @property
    def scratch(self) -> Path | None:
        """Where a run's files may lie for as long as it takes; None: where temporary files go."""

    def read(self, path: Path) -> Any:
        """A Parquet file, or a folder of them, as an Ibis table."""

    def write(self, table: Any, path: Path) -> list[Path]:
        """Compute a table into Parquet, at `path` or below; the files come in the order of its rows."""

    def keep(self, table: Any, path: Path) -> Any:
        """The same table, computed once, into Parquet at `path` or below."""

    def count(self, table: Any) -> int:
        """How many rows there are."""

    def close(self) -> None:
        """Close everything that was opened for this engine."""


def connect(engine_url: str) -> TableEngine:
    """The engine of a URL, ready to compute.

    Args:
        engine_url: `duckdb://`, or with options
            `duckdb://?threads=2&memory_limit=4GB&temp_directory=/scratch`; `local[2]` for Spark in this
            process; `spark://host:7077?scratch=/shared` for a cluster, with settings of Spark as further
            options (`&spark.executor.memory=8g`); `k8s://[namespace]?scratch=/shared` in a pod, for executors in
            pods; `spark://?scratch=/shared` in a process that `spark-submit` has started: master and settings are
            those of the submission.

    Raises:
        SettingsError: a URL that no engine understands, or an engine that cannot be had here.
    """
    address, options = engine_url.partition("?")[0], query_of(engine_url, keep_blank_values=True)
    shown = without_credentials(engine_url)
    if address == "duckdb://":
        from immr.governance.engines.duckdb_engine import DuckDBEngine

        return DuckDBEngine(options, shown)
    if address.startswith(("spark://", "local[")):
        from immr.governance.engines.spark_engine import SparkEngine

        return SparkEngine(address, options, shown)
    if address.startswith("k8s://"):
        from immr.governance.engines import spark_on_kubernetes
        from immr.governance.engines.spark_engine import SparkEngine

        settings = spark_on_kubernetes.settings(address.removeprefix("k8s://"), options)
        return SparkEngine(spark_on_kubernetes.MASTER, settings, shown)
    raise SettingsError(
        f"no governance engine understands {shown!r}: set IMMR_ENGINE_URL to duckdb://, "
        "to local[2] (Spark in this process), to spark://host:port?scratch=/shared, or in a pod to k8s://?scratch=/shared"
    )
