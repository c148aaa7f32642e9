"""Where MLflow keeps things: a SQLite file with a folder of artifacts beside it, or a tracking server."""

from __future__ import annotations

import fcntl
import gc
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from immr.errors import RegistryError
from immr.settings import without_credentials

_SQLITE = "sqlite:///"
_SERVER = ("http://", "https://")


class Store:
    """MLflow's client, made at the first question; its errors come out as `RegistryError`."""

    def __init__(self, tracking_url: str) -> None:
        """Take the URL; nothing is opened yet.

        Args:
            tracking_url: `sqlite:///<file>` (made where it is missing) or `http(s)://…`.

        Raises:
            RegistryError: another kind of URL.
        """
        if not tracking_url.startswith((_SQLITE, *_SERVER)):
            raise RegistryError(
                f"{without_credentials(tracking_url)!r} is no address of a registry: take sqlite:///<file>, "
                "or a server's http(s)://…"
            )
        self.url = tracking_url
        self.database: Path | None = None
        if tracking_url.startswith(_SQLITE):
            self.database = Path(tracking_url.removeprefix(_SQLITE)).absolute()
            self.url = f"{_SQLITE}{self.database}"
        self._client: Any = None

    @property
    def artifacts_url(self) -> str | None:
        """Where a new experiment's files go; None lets the server decide."""
        return (self.database.parent / "artifacts").as_uri() if self.database else None

    def ask(self, method: str, *values: Any, or_none: bool = False, **named: Any) -> Any:
        """Call a method of `MlflowClient`.

        Args:
            method: its name.
            values: its arguments.
            or_none: give None, instead of an error, where what was asked for does not exist.
            named: its arguments by name.

        Raises:
            RegistryError: MLflow refused, or did not answer.
        """
        client = self._connected()
        from mlflow.exceptions import MlflowException

        try:
            return getattr(client, method)(*values, **named)
        except MlflowException as error:
            if or_none and error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise RegistryError(
                f"MLflow at {without_credentials(self.url)} did not do {method}: {error}. "
                "Check that address (IMMR_TRACKING_URL) and what was asked"
            ) from error

    def _connected(self) -> Any:
        if self._client is None:
            with _spared():
                _quiet()
                if self.database and not self.database.exists():
                    _create(self.database)
                from mlflow.tracking import MlflowClient

                self._client = MlflowClient(tracking_uri=self.url, registry_uri=self.url)
        return self._client


@contextmanager
def _spared() -> Iterator[None]:
    """No garbage is looked for while MLflow is loaded, nor in it later: that took half of the time."""
    if "mlflow" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _quiet() -> None:
    """No telemetry, no chatter about migrations, no progress bars where no one looks."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")  # some seconds; its own 7 are minutes
    if not sys.stderr.isatty():
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow.store.db.utils  # noqa: F401  MLflow sets its loggers' levels as it is imported

    for name in ("mlflow", "mlflow.store.db.utils", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _create(database: Path) -> None:
    """Migrate a new database aside, then give it its name: no one ever opens one that is half migrated."""
    import mlflow.store.tracking.sqlalchemy_store as sql

    make: Any = sql.SqlAlchemyStore
    database.parent.mkdir(parents=True, exist_ok=True)
    with (database.parent / ".creating").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if database.exists():  # another process was faster, and may be using it already
            return
        with tempfile.TemporaryDirectory(dir=database.parent, prefix=".new-") as folder:
            aside = Path(folder) / database.name
            make(f"{_SQLITE}{aside}", str(database.parent / "artifacts")).engine.dispose()
            aside.rename(database)
