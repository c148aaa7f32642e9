import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from immr.datasets import synthetic
from immr.datasets.simulation import simulate
from immr.datasets.simulation_recipe import SimulationRecipe
from immr.governance.govern import govern
from tests.governance.engines.govern_on_cluster import RECIPE
from tests.support import spark_cluster

ROOT = Path(__file__).parents[3]
LOOPBACK = (
    "spark.driver.host=127.0.0.1&spark.driver.bindAddress=127.0.0.1&spark.ui.enabled=false"
    "&spark.executor.memory=512m&spark.sql.shuffle.partitions=2&spark.sql.codegen.wholeStage=false"
)
SUBMITTED = """
import sys
from immr.governance.engines.engine import connect
engine = connect(f"spark://?scratch={sys.argv[1]}")
spark = engine._session.sparkContext
print(spark.master, spark.getConf().get("spark.executor.cores"), engine.scratch)
engine.close()
"""


@pytest.mark.slow
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


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("log")
    pictures = synthetic.SyntheticRecipe(items=12, train_photos=8, val_photos=1, side_px=48)
    simulate(synthetic.load(pictures, root / "cache"), root / "log", SimulationRecipe(broken_rows=3))
    return root / "log"


def governed(cluster: spark_cluster.Cluster, log: Path, folder: Path, *victim: str) -> str:
    """The manifest hash, from a process without another Spark."""
    url = f"{cluster.url}?scratch={folder}&{LOOPBACK}"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.governance.engines.govern_on_cluster",
            url,
            log,
            folder / "set",
            *victim,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_cluster_gives_the_same_manifest_even_if_a_worker_is_killed(log: Path, tmp_path: Path) -> None:
    expected = govern(log, tmp_path / "here", RECIPE).hash
    with spark_cluster.cluster(tmp_path / "cluster") as cluster:
        (tmp_path / "whole").mkdir()
        assert governed(cluster, log, tmp_path / "whole") == expected
        (tmp_path / "killed").mkdir()
        assert governed(cluster, log, tmp_path / "killed", str(cluster.workers[0].pid)) == expected
        assert cluster.workers[0].poll() is not None and cluster.alive() == 1
