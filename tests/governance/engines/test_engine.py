from contextlib import closing
from pathlib import Path

import pytest

from immr.errors import SettingsError
from immr.governance.engines.engine import connect


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("flink://cluster", "no governance engine understands 'flink://cluster'"),
        ("duckdb:///a/file", "set IMMR_ENGINE_URL to duckdb://"),
        ("duckdb://?speed=9", "unknown options speed"),
        ("duckdb://?threads=many", "rejects the options"),
        ("duckdb://?temp_directory=/no/such/folder", "name a folder that can"),
        ("spark://cluster:7077", r"add one, as in spark://cluster:7077\?scratch="),
        ("local[2]?cores=3", "unknown options cores"),
    ],
)
def test_other_urls_are_refused_with_a_remedy(url: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        connect(url)


@pytest.mark.parametrize(
    "url", ["postgresql://ann:secret@host/db", "spark://ann:secret@host:7077", "duckdb://?token=secret"]
)
def test_messages_show_no_password(url: str) -> None:
    with pytest.raises(SettingsError) as raised:
        connect(url)
    assert "secret" not in str(raised.value)


def test_a_plus_sign_is_no_space(tmp_path: Path) -> None:
    """Spark's options have them as well: -XX:+UseG1GC."""
    (tmp_path / "a+b").mkdir()
    with closing(connect(f"duckdb://?temp_directory={tmp_path}/a+b")) as engine:
        assert engine.scratch == tmp_path / "a+b"
