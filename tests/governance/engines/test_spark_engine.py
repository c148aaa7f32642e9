import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SUBMITTED = """
import sys
from immr.governance.engines.engine import connect
engine = connect(f"spark://?scratch={sys.argv[1]}")
spark = engine._session.sparkContext
print(spark.master, spark.getConf().get("spark.executor.cores"), engine.scratch)
engine.close()
"""


def test_a_url_without_a_host_uses_the_submitted_spark(tmp_path: Path) -> None:
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
