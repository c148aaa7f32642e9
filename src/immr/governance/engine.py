"""The engine that governance's tables are computed on, as an Ibis backend."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit

from immr.errors import SettingsError

_OPTIONS = {"threads", "memory_limit", "temp_directory"}


def connect(engine_url: str) -> Any:
    """An Ibis backend with a fresh database.

    Args:
        engine_url: `duckdb://`, or with options `duckdb://?threads=2&memory_limit=4GB&temp_directory=/scratch`.

    Raises:
        SettingsError: a URL that no engine understands.
    """
    parts = urlsplit(engine_url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parts.scheme != "duckdb" or parts.netloc or parts.path:
        raise SettingsError(
            f"no governance engine understands {engine_url!r}: set IMMR_ENGINE_URL to duckdb://"
        )
    if unknown := sorted(set(options) - _OPTIONS):
        raise SettingsError(
            f"the engine URL {engine_url!r} has unknown options {', '.join(unknown)}: "
            f"take some of {', '.join(sorted(_OPTIONS))}"
        )
    import ibis

    try:
        backend = ibis.duckdb.connect(**options)
        backend.raw_sql("SET TimeZone = 'UTC'")
    except Exception as error:  # DuckDB has its own tree of errors for bad option values
        raise SettingsError(
            f"DuckDB does not take the options in {engine_url!r} ({error}): correct them"
        ) from error
    return backend
