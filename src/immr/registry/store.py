"""The connection to MLflow: a SQLite file with a folder of artifacts beside it, or a tracking server."""

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
from immr.registry.relocation import relocate_artifacts
from immr.settings import reason_without_credentials, without_credentials

_SQLITE = "sqlite:///"
_SERVER = ("http://", "https://")


class Store:
    """MLflow's client, created by the first call; its errors are raised as `RegistryError`.

    Attributes:
        url: The tracking URL, with an absolute path for SQLite.
        shown_url: The same without credentials, for messages.
    """

    def __init__(self, tracking_url: str, experiment: str) -> None:
        """Check the URL; nothing is opened yet.

        Args:
            tracking_url: `sqlite:///<file>` (created if missing) or `http(s)://…`.
            experiment: Name of the experiment whose artifacts are stored beside a SQLite file.

        Raises:
            RegistryError: The URL has another scheme, or options.
        """
        self.shown_url = without_credentials(tracking_url)
        if not tracking_url.startswith((_SQLITE, *_SERVER)):
            raise RegistryError(
                f"{self.shown_url!r} is not a registry URL: use sqlite:///<file> or a server's http(s)://…"
            )
        if tracking_url.startswith(_SQLITE) and "?" in tracking_url:
            raise RegistryError(
                f"{self.shown_url!r} has options, and MLflow takes none: leave out what follows the ?"
            )
        self.url = tracking_url
        self._experiment = experiment
        self._database: Path | None = None
        if tracking_url.startswith(_SQLITE):
            self._database = Path(tracking_url.removeprefix(_SQLITE)).absolute()
            self.url = self.shown_url = f"{_SQLITE}{self._database}"
        self._client: Any = None

    @property
    def artifacts_url(self) -> str | None:
        """Where a new experiment stores its artifacts, or None to let the server decide."""
        return _artifacts(self._database).as_uri() if self._database else None

    def call(self, method: str, *values: Any, or_none: bool = False, **named: Any) -> Any:
        """Call a method of `MlflowClient`.

        Args:
            method: Name of the method.
            values: Its positional arguments.
            or_none: Return None instead of raising if the requested object does not exist.
            named: Its keyword arguments.

        Raises:
            RegistryError: MLflow refused the request or did not answer.
        """
        client = self._connected()
        from mlflow.exceptions import MlflowException

        try:
            return getattr(client, method)(*values, **named)
        except MlflowException as error:
            if or_none and error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise RegistryError(
                f"MLflow at {self.shown_url} failed in {method}: {self._reason(error)}. "
                "Check IMMR_TRACKING_URL and that the server is running"
            ) from error

    def download(self, uri: str, folder: Path) -> None:
        """Download the artifacts at a URI to `folder`, below the last part of the URI's path.

        Raises:
            RegistryError: The artifacts are missing, or MLflow did not answer.
        """
        self._connected()
        from mlflow.artifacts import download_artifacts
        from mlflow.exceptions import MlflowException

        try:
            download_artifacts(artifact_uri=uri, dst_path=str(folder), tracking_uri=self.url)
        except MlflowException as error:
            raise RegistryError(
                f"MLflow at {self.shown_url} could not deliver {without_credentials(uri)} "
                f"({self._reason(error)}): check that the server is running and can reach its artifact store"
            ) from error

    def _reason(self, error: Exception) -> str:
        return reason_without_credentials(error, self.url)

    def _connected(self) -> Any:
        if self._client is None:
            with _garbage_collection_paused_for_mlflow():
                _silence_mlflow()
                if self._database:
                    if not self._database.exists():
                        _create(self._database)
                    relocate_artifacts(self._database, self._experiment, _artifacts(self._database))
                else:
                    _leave_out_feasts_plugin()
                from mlflow.tracking import MlflowClient

                self._client = MlflowClient(tracking_uri=self.url, registry_uri=self.url)
        return self._client


def _artifacts(database: Path) -> Path:
    return database.parent / "artifacts"


@contextmanager
def _garbage_collection_paused_for_mlflow() -> Iterator[None]:
    """Import MLflow without garbage collection, and exempt its objects from later collections.

    Garbage collection took half of the import time.
    """
    if "mlflow" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _silence_mlflow() -> None:
    """Turn off telemetry, migration logs and, outside a terminal, progress bars."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    # three retries take a few seconds; the default of seven takes minutes
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    if not sys.stderr.isatty():
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow.store.db.utils  # noqa: F401  importing it resets the levels that are set below

    for name in ("mlflow", "mlflow.store.db.utils", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _leave_out_feasts_plugin() -> None:
    """Load MLflow's providers of request headers without Feast's.

    Feast's serves only its own data sources, and MLflow would import all of Feast for it with the first request.
    """
    from mlflow.utils import plugins

    found = plugins.get_entry_points

    def ours(group: str) -> list[Any]:
        return [each for each in found(group) if not each.value.startswith("feast.")]

    plugins.get_entry_points = ours
    try:
        import mlflow.tracking.request_header.registry  # noqa: F401
    finally:
        plugins.get_entry_points = found


def _create(database: Path) -> None:
    """Create and migrate a database under a temporary name, so that no process opens it half migrated."""
    import mlflow.store.tracking.sqlalchemy_store as sql

    make: Any = sql.SqlAlchemyStore
    database.parent.mkdir(parents=True, exist_ok=True)
    with (database.parent / ".creating").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if database.exists():  # another process was faster and may already use it
            return
        with tempfile.TemporaryDirectory(dir=database.parent, prefix=".new-") as folder:
            new = Path(folder) / database.name
            make(f"{_SQLITE}{new}", str(_artifacts(database))).engine.dispose()
            new.rename(database)
