"""Feast as the feature store: a repository folder, SQLite or Redis online, Parquet offline.

Importing Feast takes seconds, so it is imported at the first use or by `warm`, not by the constructor.
"""

from __future__ import annotations

import fcntl
import inspect
import io
import json
import logging
import math
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from immr.errors import ContractError, FeaturesUnavailableError, ImmrError
from immr.features.definitions import (
    FEATURE_STORE_YAML,
    FEATURES,
    OFFLINE_FILE,
    ONLINE_FILE,
    PUSH_SOURCE,
    REGISTRY_FILE,
    VIEW,
    definitions,
)
from immr.features.online_view import OnlineView
from immr.features.repository import close_connections, lacks_view, open_repository
from immr.features.stats import COLUMNS, SCHEMA
from immr.storage import fingerprint
from immr.storage.atomic import write_atomically
from immr.types import ItemFeatures

if TYPE_CHECKING:
    from feast import FeatureStore

    from immr.features.sql_registry import SqlRegistry

_log = logging.getLogger(__name__)

_YAML = "feature_store.yaml"
_APPLIED = "data/applied.json"
_LOADED = "data/loaded.json"
_MAY_LACK = FEATURES[-2:]  # stock, updated_at
_CHECKED_ITEMS = 1000
_CLOCK_TOLERANCE = timedelta(days=1)


class FeastFeatures:
    """A Feast repository below `path`, created by the first `materialize`.

    Safe to share between threads and processes; reads continue during a write. After an error the next read
    opens the store again. An existing `feature_store.yaml` is kept, a missing one is created from `yaml`.

    Redis replaces a row only by a newer one, and shows a push item by item. Rows dated in
    the future by a wrong clock are deleted before the next write.
    """

    def __init__(
        self,
        path: Path,
        yaml: str = FEATURE_STORE_YAML,
        *,
        password: str = "",
        sql_registry: SqlRegistry | None = None,
    ) -> None:
        """Store the arguments; Feast is imported by the first call.

        Args:
            path: The repository's folder.
            yaml: The text of `feature_store.yaml`.
            password: Of the Redis server; it is not written to any file.
            sql_registry: The registry that `yaml` names, if it is not a file.
        """
        self._path = path.absolute()
        self._yaml = yaml
        self._password = password
        self._sql_registry = sql_registry
        self._online: OnlineView | None = None
        self._writer: FeatureStore | None = None  # its own connection: readers never see half a write
        self._reading = threading.Lock()
        self._writing = threading.Lock()
        self._ready = False

    @property
    def ready(self) -> bool:
        """Whether a read is fast now."""
        return self._ready

    def warm(self) -> None:
        """Load Feast and the definitions, and read once.

        Raises:
            FeaturesUnavailableError: never materialized, or the store does not answer: try again later.
        """
        self.read([""])

    def materialize(self, stats: pa.Table) -> int:
        """Make these rows the offline source, apply the definitions if they changed, load the rows online.

        Online rows of other items stay as they are.

        Returns:
            The number of rows loaded.

        Raises:
            ContractError: columns or types other than those of `SCHEMA`, or no row.
            FeaturesUnavailableError: the store does not answer.
        """
        rows = _checked(stats)
        if not len(rows):
            raise ContractError("there is no row to materialize: check the items table")
        times = pc.min_max(rows["event_timestamp"]).as_py()
        margin = timedelta(seconds=1)
        with self._write_lock(), _answers(self._path):
            self._write_offline(rows)
            store = self._open_writer()
            self._delete_future_rows(store, rows)
            with _quiet():
                store.materialize(times["min"] - margin, times["max"] + margin, feature_views=[VIEW])
            self._note_loaded(times["max"])
        _log.info("%d items materialized as of %s", len(rows), times["max"])
        return len(rows)

    def push(self, stats: pa.Table) -> int:
        """Write rows online through the push source, and append them offline.

        Returns:
            The number of rows.

        Raises:
            ContractError: columns or types other than those of `SCHEMA`.
            FeaturesUnavailableError: never materialized, or the store does not answer.
        """
        rows = _checked(stats)
        if not len(rows):
            return 0
        self._check_materialized()
        with self._write_lock(), _answers(self._path):
            store = self._open_writer()
            self._delete_future_rows(store, rows)
            store.push(PUSH_SOURCE, rows.to_pandas())
            # Feast's own append maps the file into memory and truncates it while it is read
            offline = [pq.read_table(self._path / OFFLINE_FILE), rows]  # older rows may lack newer columns
            self._write_offline(pa.concat_tables(offline, promote_options="default"))
            self._note_loaded(pc.max(rows["event_timestamp"]).as_py())
        return len(rows)

    def read(self, item_ids: Sequence[str]) -> dict[str, ItemFeatures]:
        """Online features in one call, without items that the store does not have.

        Raises:
            FeaturesUnavailableError: never materialized, or the store does not answer.
        """
        if not item_ids:
            return {}
        with self._reading, _answers(self._path):
            try:
                rows = self._open_reader().read(item_ids)
            except Exception:
                self._online = None  # its connection may be permanently broken
                raise
        self._ready = True
        return {item_id: _features(values) for item_id, values in rows.items() if _is_known(values)}

    def freshness(self) -> datetime | None:
        """The newest event_timestamp that was loaded from this folder; reads one small file."""
        file = self._path / _LOADED
        return datetime.fromisoformat(json.loads(file.read_text())["newest"]) if file.is_file() else None

    def _delete_future_rows(self, store: FeatureStore, rows: pa.Table) -> None:
        """Redis keeps the newer of two rows: one from the future would block all later writes."""
        if store.config.online_store.type != "redis":
            return
        step = max(1, len(rows) // _CHECKED_ITEMS)
        online = OnlineView(store, VIEW, FEATURES)
        newest = online.newest(rows["item_id"].to_pylist()[::step])
        if newest is not None and _is_future(newest):
            _log.warning("deleting all online features: their time, %s, is in the future", newest)
            online.clear()

    def _open_reader(self) -> OnlineView:
        if self._online is None:
            self._check_materialized()
            store = open_repository(self._path, self._password)
            try:
                self._online = OnlineView(store, VIEW, FEATURES)
            finally:
                close_connections(store)  # the view is all that reads need of the registry
        return self._online

    def _open_writer(self) -> FeatureStore:
        if self._writer is None:
            yaml = self._path / _YAML
            if not yaml.is_file():
                write_atomically(yaml, self._yaml)
            if self._sql_registry:
                self._sql_registry.create_schema()
            self._writer = open_repository(self._path, self._password)
        self._apply_if_changed(self._writer)
        return self._writer

    def _apply_if_changed(self, store: FeatureStore) -> None:
        import feast

        source = fingerprint.of_file(Path(inspect.getfile(definitions)))
        key = fingerprint.of_values(source, (self._path / _YAML).read_text(), feast.__version__)
        applied = self._path / _APPLIED
        if (
            applied.is_file()
            and json.loads(applied.read_text())["key"] == key
            and not self._registry_is_missing()
            and not (self._sql_registry and lacks_view(store))
        ):
            return
        with _quiet():
            store.apply(definitions())
        if (online := self._path / ONLINE_FILE).is_file():
            _let_readers_in_while_writing(online)
        write_atomically(applied, json.dumps({"key": key}))

    def _check_materialized(self) -> None:
        if not (self._path / _YAML).is_file() or self._registry_is_missing():
            raise FeaturesUnavailableError(
                f"the feature store {self._path} was never materialized: run `immr materialize`"
            )

    def _registry_is_missing(self) -> bool:
        """Whether nothing was applied yet to a repository with our own `feature_store.yaml`."""
        ours = (self._path / _YAML).read_text() == self._yaml
        proof = _APPLIED if self._sql_registry else REGISTRY_FILE
        return ours and not (self._path / proof).is_file()

    def _write_offline(self, rows: pa.Table) -> None:
        sink = pa.BufferOutputStream()
        pq.write_table(rows, sink)
        write_atomically(self._path / OFFLINE_FILE, sink.getvalue().to_pybytes())

    def _note_loaded(self, newest: datetime) -> None:
        former = self.freshness()
        if former is not None and not _is_future(former):
            newest = max(newest, former)
        write_atomically(self._path / _LOADED, json.dumps({"newest": newest.astimezone(UTC).isoformat()}))

    @contextmanager
    def _write_lock(self) -> Iterator[None]:
        """One writer at a time, across threads and processes, because files are read and then written."""
        with self._writing:
            self._path.mkdir(parents=True, exist_ok=True)
            with (self._path / ".writing").open("w") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                try:
                    yield
                finally:
                    if self._writer is not None:
                        close_connections(self._writer)


@contextmanager
def _answers(path: Path) -> Iterator[None]:
    """Translate the exceptions of Feast and its stores, which have no common base class."""
    try:
        yield
    except ImmrError:
        raise
    except Exception as error:
        raise FeaturesUnavailableError(
            f"the feature store {path} does not answer ({type(error).__name__}: {error}): "
            "check the folder and its feature_store.yaml, then run `immr materialize`"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Log at debug level what Feast prints while it applies and materializes."""
    printed = io.StringIO()
    with redirect_stdout(printed), redirect_stderr(printed):
        yield
    _log.debug("feast: %s", printed.getvalue().strip())


def _is_future(time: datetime) -> bool:
    return time > datetime.now(UTC) + _CLOCK_TOLERANCE


def _checked(stats: pa.Table) -> pa.Table:
    try:
        return stats.select(list(COLUMNS)).cast(SCHEMA).combine_chunks()
    except (KeyError, ValueError, pa.ArrowException) as error:
        raise ContractError(
            f"the table of item features does not fit ({error}): make it with immr.features.stats.item_stats"
        ) from error


def _is_known(values: list[Any]) -> bool:
    return None not in values[: len(FEATURES) - len(_MAY_LACK)]


def _features(values: list[Any]) -> ItemFeatures:
    features = ItemFeatures(*values)
    unknown = features.stock is None or math.isnan(features.stock)  # pandas and Feast store null as NaN
    return replace(features, stock=None) if unknown else features


def _let_readers_in_while_writing(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
