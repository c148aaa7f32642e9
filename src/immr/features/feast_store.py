"""Feast as the feature store: a repository folder, SQLite or Redis online, Parquet offline.

Importing Feast takes seconds, so it happens at the first use or in `warm`, never in the constructor.
"""

from __future__ import annotations

import fcntl
import io
import json
import logging
import math
import os
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
from immr.features.stats import COLUMNS, SCHEMA
from immr.storage import fingerprint
from immr.storage.atomic import write_atomically
from immr.types import ItemFeatures

if TYPE_CHECKING:
    from feast import FeatureStore

_log = logging.getLogger(__name__)

_YAML = "feature_store.yaml"
_APPLIED = "data/applied.json"
_LOADED = "data/loaded.json"
_MAY_LACK = FEATURES[-2:]  # stock, updated_at
_PROMETHEUS_VARIABLES = ("PROMETHEUS_MULTIPROCESS_DIR", "PROMETHEUS_MULTIPROC_DIR")


class FeastFeatures:
    """A Feast repository below `path`; made at the first `materialize`.

    May be used from many threads and processes: reads go on while one of them writes. A `feature_store.yaml`
    that is already there is taken as it is, and made of `yaml` where it is missing.

    On Redis a row is replaced by a newer one only, and a push is seen item by item.
    """

    def __init__(self, path: Path, yaml: str = FEATURE_STORE_YAML) -> None:
        self._path = path.absolute()
        self._yaml = yaml
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

        Rows of items that are not in `stats` stay online as they are.

        Returns:
            The rows loaded.

        Raises:
            ContractError: columns or types that `SCHEMA` does not have, or no row.
            FeaturesUnavailableError: the store does not take them.
        """
        rows = _checked(stats)
        if not len(rows):
            raise ContractError("there is no row to materialize: check the items table")
        times = pc.min_max(rows["event_timestamp"]).as_py()
        margin = timedelta(seconds=1)
        with self._write_lock(), _answers(self._path):
            self._write_offline(rows)
            store = self._open_writer()
            with _quiet():
                store.materialize(times["min"] - margin, times["max"] + margin, feature_views=[VIEW])
            self._note_loaded(times["max"])
        _log.info("%d items materialized as of %s", len(rows), times["max"])
        return len(rows)

    def push(self, stats: pa.Table) -> int:
        """Bring rows online through the push source, and append them offline.

        Returns:
            The rows pushed.

        Raises:
            ContractError: columns or types that `SCHEMA` does not have.
            FeaturesUnavailableError: never materialized, or the store does not take them.
        """
        rows = _checked(stats)
        if not len(rows):
            return 0
        self._check_materialized()
        with self._write_lock(), _answers(self._path):
            store = self._open_writer()
            store.push(PUSH_SOURCE, rows.to_pandas())
            # Feast's own append maps the file into memory and truncates it while it is read
            offline = [pq.read_table(self._path / OFFLINE_FILE), rows]  # older rows may lack younger columns
            self._write_offline(pa.concat_tables(offline, promote_options="default"))
            self._note_loaded(pc.max(rows["event_timestamp"]).as_py())
        return len(rows)

    def read(self, item_ids: Sequence[str]) -> dict[str, ItemFeatures]:
        """Online features in one call; items that the store does not know are left out.

        Raises:
            FeaturesUnavailableError: never materialized, or the store does not answer.
        """
        if not item_ids:
            return {}
        with self._reading, _answers(self._path):
            if self._online is None:
                self._check_materialized()
                self._online = OnlineView(_open(self._path), VIEW, FEATURES)
            rows = self._online.read(item_ids)
        self._ready = True
        return {item_id: _features(values) for item_id, values in rows.items() if _is_known(values)}

    def freshness(self) -> datetime | None:
        """The newest event_timestamp that this folder's processes brought online; reads one small file."""
        file = self._path / _LOADED
        return datetime.fromisoformat(json.loads(file.read_text())["newest"]) if file.is_file() else None

    def _open_writer(self) -> FeatureStore:
        if self._writer is None:
            yaml = self._path / _YAML
            if not yaml.is_file():
                write_atomically(yaml, self._yaml)
            self._writer = _open(self._path)
        self._apply_if_changed(self._writer)
        return self._writer

    def _apply_if_changed(self, store: FeatureStore) -> None:
        import feast

        source = fingerprint.of_file(Path(definitions.__code__.co_filename))
        key = fingerprint.of_values(source, (self._path / _YAML).read_text(), feast.__version__)
        applied = self._path / _APPLIED
        if (
            applied.is_file()
            and json.loads(applied.read_text())["key"] == key
            and not self._registry_is_missing()
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
        """Whether this is a repository as we make it, and nothing was applied to it."""
        ours = (self._path / _YAML).read_text() == self._yaml
        return ours and not (self._path / REGISTRY_FILE).is_file()

    def _write_offline(self, rows: pa.Table) -> None:
        sink = pa.BufferOutputStream()
        pq.write_table(rows, sink)
        write_atomically(self._path / OFFLINE_FILE, sink.getvalue().to_pybytes())

    def _note_loaded(self, newest: datetime) -> None:
        newest = max(newest, self.freshness() or newest)
        write_atomically(self._path / _LOADED, json.dumps({"newest": newest.astimezone(UTC).isoformat()}))

    @contextmanager
    def _write_lock(self) -> Iterator[None]:
        """One writer at a time, over threads and processes, because files are read and then written."""
        with self._writing:
            self._path.mkdir(parents=True, exist_ok=True)
            with (self._path / ".writing").open("w") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield


def _open(path: Path) -> FeatureStore:
    _leave_prometheus_alone()
    from feast import FeatureStore

    # Feast warns that serve_features_while_materializing may do nothing with a file registry; it does
    logging.getLogger("feast.repo_config").setLevel(logging.ERROR)
    return FeatureStore(repo_path=str(path))


def _leave_prometheus_alone() -> None:
    """Import Feast without the side effect of `feast.metrics`.

    It would put the prometheus_client of this process, and of those that this one starts, into
    multi-process mode. prometheus_client chooses its mode as it is imported, so it goes first.
    """
    import prometheus_client  # noqa: F401

    added = [name for name in _PROMETHEUS_VARIABLES if name not in os.environ]
    os.environ.update(dict.fromkeys(added, os.devnull))
    try:
        import feast.metrics  # noqa: F401
    finally:
        for name in added:
            del os.environ[name]


@contextmanager
def _answers(path: Path) -> Iterator[None]:
    """Turn whatever Feast and its stores throw into our own error: their exceptions have no common base."""
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
    """Feast prints while it applies and materializes; that goes to the log at debug level."""
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        yield
    _log.debug("feast: %s", said.getvalue().strip())


def _checked(stats: pa.Table) -> pa.Table:
    try:
        return stats.select(list(COLUMNS)).cast(SCHEMA).combine_chunks()
    except (KeyError, ValueError, pa.ArrowException) as error:
        raise ContractError(
            f"the stats table does not fit ({error}): make it with immr.features.stats.item_stats"
        ) from error


def _is_known(values: list[Any]) -> bool:
    return None not in values[: len(FEATURES) - len(_MAY_LACK)]


def _features(values: list[Any]) -> ItemFeatures:
    features = ItemFeatures(*values)
    unknown = features.stock is None or math.isnan(features.stock)  # pandas, and Feast, know no missing float
    return replace(features, stock=None) if unknown else features


def _let_readers_in_while_writing(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
