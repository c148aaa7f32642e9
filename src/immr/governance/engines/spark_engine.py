"""Spark, in this process or on a cluster. Needs Java 17 or later, and the extra `spark`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from immr.errors import SettingsError

_ALWAYS = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",  # not the deprecated INT96
    "spark.sql.ansi.enabled": "true",  # an overflow is an error, as in DuckDB
}
_DEFAULTS = {
    "spark.app.name": "immr-governance",
    "spark.log.level": "ERROR",
    "spark.ui.showConsoleProgress": "false",
}
_LOCAL_DEFAULTS = {
    "spark.ui.enabled": "false",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
}


class SparkEngine:
    """A Spark session of its own; in a process that already runs Spark it shares the context.

    Driver and executors exchange tables through files. On a cluster `scratch` must therefore be a folder that
    all of them can see (an NFS or ReadWriteMany volume).

    Args:
        master: `local[2]` or `spark://host:7077`; `spark://`: the master given to `spark-submit`.
        options: `scratch`, and any `spark.…` setting. In a shared context only session settings take effect.
        shown_url: the whole URL without credentials, for error messages.

    Raises:
        SettingsError: pyspark or Java is missing, an option is unknown, or the master does not answer.
    """

    def __init__(self, master: str, options: Mapping[str, str], shown_url: str) -> None:
        unknown = sorted(name for name in options if name != "scratch" and not name.startswith("spark."))
        if unknown:
            raise SettingsError(
                f"the engine URL {shown_url!r} has unknown options {', '.join(unknown)}: "
                "use scratch and settings of Spark (spark.…)"
            )
        self._scratch = Path(options["scratch"]) if "scratch" in options else None
        if self._scratch is None and not master.startswith("local["):
            raise SettingsError(
                f"the engine URL {shown_url!r} names no folder that driver and executors share: "
                f"add one, as in {shown_url.partition('?')[0]}?scratch=/shared/immr"
            )
        settings = {name: value for name, value in options.items() if name != "scratch"}
        self._session, self._owned = _session(master, settings, shown_url)
        import ibis

        self._backend = ibis.pyspark.connect(self._session)

    @property
    def scratch(self) -> Path | None:
        """The folder that driver and executors share."""
        return self._scratch

    def read(self, path: Path) -> Any:
        """See the port."""
        return self._backend.read_parquet(str(path))

    def write(self, table: Any, path: Path) -> list[Path]:
        """A folder at `path`; Spark numbers its files in the order of their rows."""
        self._backend.to_parquet(table, path)
        return sorted(path.glob("part-*.parquet"))

    def keep(self, table: Any, path: Path) -> Any:
        """See the port. The schema is known, so Spark needs no job to infer it from the files."""
        rows = self._session.sql(self._backend.compile(table))
        rows.write.parquet(str(path))
        self._session.read.schema(rows.schema).parquet(str(path)).createOrReplaceTempView(path.stem)
        return self._backend.table(path.stem)

    def count(self, table: Any) -> int:
        """See the port."""
        return int(self._session.sql(self._backend.compile(table)).count())

    def close(self) -> None:
        """Stops Spark if this engine started it."""
        if self._owned:
            self._session.stop()


def _session(master: str, settings: Mapping[str, str], shown_url: str) -> tuple[Any, bool]:
    """A session, and whether its context was started for it."""
    try:
        from pyspark import SparkConf
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise SettingsError(
            f"{shown_url!r} needs pyspark: install the extra `spark`, or set IMMR_ENGINE_URL to duckdb://"
        ) from error
    local = _LOCAL_DEFAULTS if master.startswith("local[") else {}
    wanted = {**_DEFAULTS, **local, **_cores(master), **settings, **_ALWAYS}
    running = SparkSession.getActiveSession()
    try:
        if running is None:
            conf = SparkConf().setAll(list(wanted.items()))
            if master != "spark://":
                conf.setMaster(master)
            return SparkSession.builder.config(conf=conf).getOrCreate(), True
        session = running.newSession()
        for name, value in wanted.items():
            if name.startswith("spark.sql."):
                session.conf.set(name, value)
        return session, False
    except (PySparkException, OSError, RuntimeError, ValueError) as error:
        raise SettingsError(
            f"Spark does not start for {shown_url!r} ({error}): it needs Java 17 or later on the path "
            "(Debian: default-jre-headless), and a master that answers"
        ) from error


def _cores(master: str) -> dict[str, str]:
    """In this process, as many partitions as cores; Spark's default of 200 is meant for clusters."""
    cores = re.fullmatch(r"local\[(\d+)\]", master)
    return {"spark.sql.shuffle.partitions": cores[1]} if cores else {}
