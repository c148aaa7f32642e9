"""DuckDB in this process: spills to disk when its memory is used up."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from immr.errors import SettingsError
from immr.machine import capacity

_OPTIONS = {"threads", "memory_limit", "temp_directory"}
_MOST_MEMORY_GB = 6.0
_SHARE_OF_MEMORY = 0.5  # leaves the rest to training and other users


class DuckDBEngine:
    """A new database in memory, which spills to `temp_directory` beyond `memory_limit`.

    By default it takes up to half of the memory of the machine or container, at most 6 GB, and spills to the
    system's folder for temporary files. If a `temp_directory` is given, a run's tables are stored there too.

    Raises:
        SettingsError: an option is unknown, or DuckDB rejects its value.
    """

    def __init__(self, options: Mapping[str, str], shown_url: str) -> None:
        if unknown := sorted(set(options) - _OPTIONS):
            raise SettingsError(
                f"the engine URL {shown_url!r} has unknown options {', '.join(unknown)}: "
                f"use some of {', '.join(sorted(_OPTIONS))}"
            )
        import ibis

        self._scratch = Path(options["temp_directory"]) if "temp_directory" in options else None
        try:
            self._spill = TemporaryDirectory(prefix="immr-duckdb-", dir=self._scratch)
        except OSError as error:
            raise SettingsError(
                f"the temp_directory of {shown_url!r} cannot be written ({error}): name a folder that can"
            ) from error
        try:
            taken = {"memory_limit": _default_memory(), **options, "temp_directory": self._spill.name}
            self._backend = ibis.duckdb.connect(**taken)
            self._backend.raw_sql("SET TimeZone = 'UTC'")
            self._backend.raw_sql(
                "SET preserve_insertion_order = false"
            )  # it costs memory, and queries that need an order ask for it
        except Exception as error:  # DuckDB has its own tree of errors for bad option values
            self._spill.cleanup()
            raise SettingsError(
                f"DuckDB rejects the options in {shown_url!r} ({error}): correct them"
            ) from error

    @property
    def scratch(self) -> Path | None:
        """The `temp_directory` of the URL."""
        return self._scratch

    def setting(self, name: str) -> Any:
        """A setting as DuckDB has it now."""
        return self._backend.raw_sql(f"SELECT current_setting('{name}')").fetchone()[0]

    def read(self, path: Path) -> Any:
        """See the port."""
        return self._backend.read_parquet(str(path / "*.parquet" if path.is_dir() else path))

    def write(self, table: Any, path: Path) -> list[Path]:
        """One file, at `path`."""
        self._backend.to_parquet(table, str(path))
        return [path]

    def keep(self, table: Any, path: Path) -> Any:
        """See the port."""
        (file,) = self.write(table, path)
        return self.read(file)

    def count(self, table: Any) -> int:
        """See the port."""
        return int(self._backend.to_pyarrow(table.count()).as_py())

    def close(self) -> None:
        """See the port."""
        self._backend.disconnect()
        self._spill.cleanup()


def _default_memory() -> str:
    return f"{min(_SHARE_OF_MEMORY * capacity.memory() / 1e9, _MOST_MEMORY_GB):.1f}GB"
