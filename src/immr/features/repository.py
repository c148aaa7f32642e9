"""Opens a Feast repository, a folder with `feature_store.yaml`, and calls Feast without its side effects."""

from __future__ import annotations

import io
import logging
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from immr.errors import FeaturesUnavailableError, ImmrError
from immr.features.definitions import VIEW
from immr.features.redis_url import with_password

if TYPE_CHECKING:
    from feast import FeatureStore

_log = logging.getLogger(__name__)
_importing = threading.Lock()
_PROMETHEUS_VARIABLES = ("PROMETHEUS_MULTIPROCESS_DIR", "PROMETHEUS_MULTIPROC_DIR")


def open_repository(path: Path, password: str = "") -> FeatureStore:
    """Open the repository in a folder; the password, of a Redis server, is in no file."""
    import_feast()
    from feast import FeatureStore

    # Feast warns that serve_features_while_materializing may do nothing with a file registry; it does
    logging.getLogger("feast.repo_config").setLevel(logging.ERROR)
    store = FeatureStore(repo_path=str(path))
    if password:
        online = store.config.online_store
        online.connection_string = with_password(online.connection_string, password)
    return store


def close_connections(store: FeatureStore) -> None:
    """Close the connections to a SQL registry; the next call opens new ones."""
    if (engine := getattr(store.registry, "write_engine", None)) is not None:
        engine.dispose()


def lacks_view(store: FeatureStore) -> bool:
    """Whether another database took the place of the one that the definitions were applied to."""
    return VIEW not in {view.name for view in store.list_feature_views(allow_cache=False)}


def import_feast() -> None:
    """Import Feast without two side effects.

    `feast.metrics` would switch the prometheus_client of this process and its children to multi-process mode.
    prometheus_client chooses its mode when it is imported, so it is imported first.

    Feast also has typeguard rewrite its classes, so that each call checks the types of its arguments. That takes four
    of the six seconds of a core that the import costs otherwise, and mypy has checked our calls.
    """
    import prometheus_client  # noqa: F401
    import typeguard

    checks: Any = typeguard
    with _importing:
        added = [name for name in _PROMETHEUS_VARIABLES if name not in os.environ]
        os.environ.update(dict.fromkeys(added, os.devnull))
        rewrite, checks.typechecked = checks.typechecked, _unchanged
        try:
            import feast.metrics  # noqa: F401
        finally:
            checks.typechecked = rewrite
            for name in added:
                del os.environ[name]


def _unchanged(target: Any) -> Any:
    return target


@contextmanager
def answers(path: Path) -> Iterator[None]:
    """Translate the exceptions of Feast and its stores, which have no common base class."""
    try:
        yield
    except ImmrError:
        raise
    except ModuleNotFoundError as error:
        raise FeaturesUnavailableError(
            f"features need the module {error.name}, which is not installed: run `pip install 'immr[serve]'`"
        ) from error
    except Exception as error:
        raise FeaturesUnavailableError(
            f"the feature store {path} does not answer ({type(error).__name__}: {error}): "
            "check the folder and its feature_store.yaml, then run `immr materialize`"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Log at debug level what Feast prints while it applies and materializes."""
    printed = io.StringIO()
    with redirect_stdout(printed), redirect_stderr(printed):
        yield
    _log.debug("feast: %s", printed.getvalue().strip())


def let_readers_in_while_writing(database: Path) -> None:
    """Switch a SQLite database to its write-ahead log."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
