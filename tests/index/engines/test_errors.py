import sqlite3

import pytest

from immr.errors import IndexUnavailableError
from immr.index.engines.errors import EngineError, translate_errors


class RefusedError(RuntimeError):
    status_code = 401


@pytest.mark.parametrize("error", [OSError("gone"), sqlite3.OperationalError("gone"), EngineError("gone")])
def test_the_message_has_place_and_reason(error: Exception) -> None:
    match = r"http://index:6333 is not available \(gone\)"
    with pytest.raises(IndexUnavailableError, match=match), translate_errors("http://index:6333"):
        raise error


def test_a_refused_key_names_its_setting() -> None:
    with (
        pytest.raises(IndexUnavailableError, match="IMMR_INDEX_KEY_FILE"),
        translate_errors("http://index:6333"),
    ):
        raise RefusedError


def test_programming_errors_are_not_translated() -> None:
    with pytest.raises(KeyError), translate_errors("here"):
        raise KeyError("name")
