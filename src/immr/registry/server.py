"""MLflow's server for several replicas: `python -m immr.registry.server`, with the arguments of `mlflow server`.

MLflow creates its tables when it first starts. Of two servers that do so at once on an empty database, one ends
with an error. Here one creates them while the others wait, and then each becomes an `mlflow server`.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlalchemy

log = logging.getLogger(__name__)

_DATABASE = "MLFLOW_BACKEND_STORE_URI"
_LOCK = 6_517_041_925  # any number that no other program locks in this database
_DATABASE_PATIENCE_S = 300.0
_POLL_S = 2.0


def create_tables(database: str, patience_s: float = _DATABASE_PATIENCE_S) -> None:
    """Create MLflow's tables, unless they exist or another process is creating them; then wait for that.

    Args:
        database: A SQLAlchemy URL; only PostgreSQL has replicas, so others are left to MLflow.
        patience_s: How long to wait for a database that does not answer.

    Raises:
        sqlalchemy.exc.OperationalError: The database did not answer in time.
    """
    if not database.startswith("postgresql"):
        return
    import sqlalchemy

    engine = sqlalchemy.create_engine(database, poolclass=sqlalchemy.NullPool)
    with closing(_connected(engine, time.monotonic() + patience_s)) as connection:
        # held by the session, so that it ends with this process, too
        connection.execute(sqlalchemy.text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK})
        if not sqlalchemy.inspect(connection).has_table("alembic_version"):
            from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

            SqlAlchemyStore(database, "mlflow-artifacts:/")  # type: ignore[no-untyped-call]
            log.info("created MLflow's tables")


def _connected(engine: sqlalchemy.Engine, deadline: float) -> sqlalchemy.Connection:
    from sqlalchemy.exc import OperationalError

    while True:
        try:
            return engine.connect()
        except OperationalError as error:
            if time.monotonic() > deadline:
                raise
            log.warning("waiting for the database: %s", str(error.orig).strip())
            time.sleep(_POLL_S)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    create_tables(os.environ.get(_DATABASE, ""))
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "server", *sys.argv[1:]])
