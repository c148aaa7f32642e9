import os
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from immr.errors import SettingsError
from immr.governance.engines.duckdb_engine import DuckDBEngine
from immr.governance.engines.engine import connect


def test_duckdb_takes_options_and_spills_where_it_is_told(tmp_path: Path) -> None:
    url = f"duckdb://?threads=1&memory_limit=200MB&temp_directory={tmp_path}"
    with closing(connect(url)) as engine:
        assert isinstance(engine, DuckDBEngine)
        assert engine.setting("threads") == 1
        assert engine.setting("memory_limit") == "190.7 MiB"
        assert Path(engine.setting("temp_directory")).parent == engine.scratch == tmp_path
    assert not list(tmp_path.iterdir())


def test_duckdb_leaves_memory_to_others(tmp_path: Path) -> None:
    with closing(connect("duckdb://")) as engine:
        assert isinstance(engine, DuckDBEngine)
        number, unit = engine.setting("memory_limit").split()
        assert unit in ("MiB", "GiB") and float(number) * (1 if unit == "GiB" else 1 / 1024) < 6.6


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("flink://cluster", "no governance engine understands 'flink://cluster'"),
        ("duckdb:///a/file", "set IMMR_ENGINE_URL to duckdb://"),
        ("duckdb://?speed=9", "unknown options speed"),
        ("duckdb://?threads=many", "does not take the options"),
        ("duckdb://?temp_directory=/no/such/folder", "name a folder that can"),
        ("spark://cluster:7077", r"add one, as in spark://cluster:7077\?scratch="),
        ("local[2]?cores=3", "unknown options cores"),
    ],
)
def test_other_urls_say_what_to_do(url: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        connect(url)


SUBMITTED = """
import sys
from immr.governance.engines.engine import connect
engine = connect(f"spark://?scratch={sys.argv[1]}")
spark = engine._session.sparkContext
print(spark.master, spark.getConf().get("spark.executor.cores"), engine.scratch)
engine.close()
"""


def test_a_url_without_a_host_is_spark_as_it_was_submitted(tmp_path: Path) -> None:
    """As the Spark operator starts the driver: `spark-submit` and its settings, then our code."""
    pyspark = pytest.importorskip("pyspark", reason="Spark is not installed: `make spark`")
    if not os.environ.get("JAVA_HOME") and shutil.which("java") is None:
        pytest.skip("Spark needs Java: `make spark` installs it where apt is at hand")
    script = tmp_path / "driver.py"
    script.write_text(SUBMITTED)
    submit = Path(pyspark.__file__).parent / "bin" / "spark-submit"
    own = ("spark.ui.enabled=false", "spark.driver.host=127.0.0.1", "spark.driver.bindAddress=127.0.0.1")
    settings = [part for one in (*own, "spark.executor.cores=3") for part in ("--conf", one)]
    done = subprocess.run(
        [submit, "--master", "local[1]", *settings, script, tmp_path],
        env={**os.environ, "PYSPARK_PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.split() == ["local[1]", "3", str(tmp_path)], done.stderr
