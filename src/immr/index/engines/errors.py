"""Errors of engines and their translation into IMMR's own."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from immr.errors import IndexUnavailableError


class EngineError(Exception):
    """An engine failed; the text is the engine's own."""


@contextmanager
def translate_errors(where: str) -> Iterator[None]:
    """Turn the errors of engines, clients and files into IMMR's own.

    Args:
        where: The folder or server, as error messages name it.

    Raises:
        IndexUnavailableError: An engine, client or file failed; the message contains the reason.
    """
    try:
        yield
    except Exception as error:
        if not isinstance(error, (EngineError, OSError, sqlite3.Error, RuntimeError, *_of_the_client())):
            raise
        if getattr(error, "status_code", None) in (401, 403):
            raise IndexUnavailableError(
                f"{where} refused the API key: put a valid key into the file that IMMR_INDEX_KEY_FILE names"
            ) from error
        reason = getattr(error, "source", error)
        raise IndexUnavailableError(
            f"{where} is not available ({reason}): check that it exists and that IMMR_INDEX_URL is correct"
        ) from error


def _of_the_client() -> tuple[type[Exception], ...]:
    """Errors of qdrant-client if something has imported it: that takes a second, and Qdrant Edge needs none of it."""
    if "qdrant_client" not in sys.modules:
        return ()
    from qdrant_client.common.client_exceptions import QdrantException
    from qdrant_client.http.exceptions import ApiException

    return ApiException, QdrantException
