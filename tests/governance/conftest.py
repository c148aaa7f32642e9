"""One Spark for all tests of governance, and a workspace on each engine."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from immr.governance.engines.engine import connect
from immr.governance.workspace import Workspace

# Little memory, and little compiling and planning: the tables here have few rows.
SPARK = (
    "local[2]?spark.driver.memory=1g&spark.driver.extraJavaOptions=-XX:TieredStopAtLevel=1"
    "&spark.sql.codegen.wholeStage=false&spark.sql.codegen.factoryMode=NO_CODEGEN"
    "&spark.sql.adaptive.enabled=false"
)


@pytest.fixture(scope="session")
def spark_url() -> Iterator[str]:
    pytest.importorskip("pyspark", reason="Spark is not installed: `make spark`")
    if not os.environ.get("JAVA_HOME") and shutil.which("java") is None:
        pytest.skip("Spark needs Java: `make spark` installs it where apt is at hand")
    with closing(connect(SPARK)):  # later ones share its context
        yield SPARK


@pytest.fixture(params=["duckdb", "spark"])
def engine_url(request: pytest.FixtureRequest) -> str:
    return "duckdb://" if request.param == "duckdb" else str(request.getfixturevalue("spark_url"))


@pytest.fixture
def workspace(engine_url: str, tmp_path: Path) -> Iterator[Workspace]:
    with closing(connect(engine_url)) as engine:
        yield Workspace(engine, tmp_path)


@pytest.fixture
def duckdb_workspace(tmp_path: Path) -> Iterator[Workspace]:
    """A workspace for tests that do not depend on the engine."""
    with closing(connect("duckdb://")) as engine:
        yield Workspace(engine, tmp_path)


@pytest.fixture
def table(workspace: Workspace, tmp_path: Path) -> Callable[[list[dict[str, Any]]], Any]:
    """Makes a table of the workspace from rows."""
    return _reader(workspace, tmp_path)


@pytest.fixture
def duckdb_table(duckdb_workspace: Workspace, tmp_path: Path) -> Callable[[list[dict[str, Any]]], Any]:
    """Makes a table of the DuckDB workspace from rows."""
    return _reader(duckdb_workspace, tmp_path)


def _reader(workspace: Workspace, folder: Path) -> Callable[[list[dict[str, Any]]], Any]:
    def read(rows: list[dict[str, Any]]) -> Any:
        path = folder / f"rows-{len(list(folder.iterdir()))}.parquet"
        pq.write_table(pa.Table.from_pylist(rows), path)
        return workspace.read(path)

    return read
