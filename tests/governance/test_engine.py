import pytest

from immr.errors import SettingsError
from immr.governance.engine import connect


def test_duckdb_takes_options() -> None:
    backend = connect("duckdb://?threads=1&memory_limit=200MB")
    assert backend.raw_sql("SELECT current_setting('threads')").fetchall() == [(1,)]
    backend.disconnect()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("spark://cluster", "no governance engine understands 'spark://cluster'"),
        ("duckdb:///a/file", "set IMMR_ENGINE_URL to duckdb://"),
        ("duckdb://?speed=9", "unknown options speed"),
        ("duckdb://?threads=many", "does not take the options"),
    ],
)
def test_other_urls_say_what_to_do(url: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        connect(url)
