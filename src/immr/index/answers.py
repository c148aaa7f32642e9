"""What clients and engines throw becomes our own error."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from immr.errors import IndexUnavailableError
from immr.index.engine import EngineError


@contextmanager
def answers(where: str) -> Iterator[None]:
    """Whatever goes wrong inside means that `where` does not answer.

    Raises:
        IndexUnavailableError: with the reason.
    """
    from qdrant_client.common.client_exceptions import QdrantException
    from qdrant_client.http.exceptions import ApiException

    try:
        yield
    except (ApiException, EngineError, QdrantException, OSError, sqlite3.Error, RuntimeError) as error:
        if getattr(error, "status_code", None) in (401, 403):
            raise IndexUnavailableError(
                f"{where} wants an API key, or another one: name a file that holds it in IMMR_INDEX_KEY_FILE"
            ) from error
        reason = getattr(error, "source", error)
        raise IndexUnavailableError(
            f"{where} does not answer ({reason}): check that it is there and that IMMR_INDEX_URL is right"
        ) from error
