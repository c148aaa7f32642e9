"""Feast as the feature store: a repository folder, SQLite or Redis online, Parquet offline.

Importing Feast takes seconds, so it is imported at the first use or by `warm`, not by the constructor.
"""

from __future__ import annotations

import fcntl
import inspect
import json
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from immr.errors import ContractError, FeaturesUnavailableError
from immr.features import forgotten_users
from immr.features.definitions import (
    FEATURE_STORE_YAML,
    OFFLINE_FILE,
    ONLINE_FILE,
    REGISTRY_FILE,
    definitions,
)
from immr.features.item_stats import appended, checked
from immr.features.item_view import ItemView, is_future, write_items
from immr.features.repository import (
    answers,
    close_connections,
    lacks_view,
    let_readers_in_while_writing,
    open_repository,
    quiet,
)
from immr.features.user_clicks import USERS_SCHEMA
from immr.features.user_view import UserView
from immr.storage import fingerprint
from immr.storage.atomic import write_atomically
from immr.types import ItemFeatures, UserFeatures

if TYPE_CHECKING:
    from feast import FeatureStore

    from immr.features.sql_registry import SqlRegistry

_log = logging.getLogger(__name__)
_YAML = "feature_store.yaml"
_APPLIED = "data/applied.json"
_LOADED = "data/loaded.json"
_USERS = "data/users"  # exists while there may be rows of users
_USERS_AGAIN_S = 60.0


class FeastFeatures:
    """A Feast repository below `path`, created by the first `materialize`.

    Safe to share between threads and processes; reads continue during a write, which they see in parts. After an
    error the next read opens the store again. An existing `feature_store.yaml` is kept, a missing one is created from
    `yaml`. Redis replaces a row only by a newer one, so rows that a wrong clock has dated in the future are deleted
    before the next write.
    """

    def __init__(
        self,
        path: Path,
        yaml: str = FEATURE_STORE_YAML,
        *,
        password: str = "",
        sql_registry: SqlRegistry | None = None,
    ) -> None:
        """Store the arguments; the first call imports Feast.

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
        self._online: ItemView | None = None
        self._users: UserView | None = None
        self._users_from_s = 0.0
        self._writer: FeatureStore | None = None  # its own connection: readers never see half a write
        self._reading = threading.Lock()
        self._writing = threading.Lock()
        self._ready = False

    @property
    def ready(self) -> bool:
        """Whether a read is fast now."""
        return self._ready

    @property
    def has_users(self) -> bool:
        """Whether the last write had features of users."""
        return (self._path / _USERS).is_file()

    def warm(self) -> None:
        """Load Feast and the definitions, and read once.

        Raises:
            FeaturesUnavailableError: never materialized, or the store does not answer: try again later.
        """
        self.read([""])
        self.read_user("")

    def materialize(self, stats: pa.Table, users: pa.Table | None = None) -> int:
        """Make these rows the offline source, apply the definitions if they changed, load the rows online.

        Online rows of other items stay as they are. Rows of users, of `user_clicks`, are only online, and all
        others are deleted.

        Returns:
            The number of items loaded.

        Raises:
            ContractError: columns or types other than those of `SCHEMA`, or no row.
            FeaturesUnavailableError: the store does not answer.
            SettingsError: the online store cannot delete a user.
        """
        rows = checked(stats)
        if not len(rows):
            raise ContractError("there is no row to materialize: check the items table")
        newest = pc.max(rows["event_timestamp"]).as_py()
        with self._write_lock(), answers(self._path):
            self._write_offline(rows)
            store = self._open_writer()
            write_items(store, rows)
            self._write_users(store, users)
            self._note_loaded(newest)
        _log.info("%d items materialized as of %s", len(rows), newest)
        return len(rows)

    def push(self, stats: pa.Table, users: pa.Table | None = None) -> int:
        """Write rows online, and append them to the newest ones offline; users as in `materialize`.

        Returns:
            The number of items.

        Raises:
            ContractError: columns or types other than those of `SCHEMA`.
            FeaturesUnavailableError: never materialized, or the store does not answer.
            SettingsError: the online store cannot delete a user.
        """
        rows = checked(stats)
        if not len(rows):
            return 0
        self._check_materialized()
        with self._write_lock(), answers(self._path):
            store = self._open_writer()
            write_items(store, rows)
            # Feast's own append maps the file into memory and truncates it while it is read
            older = pq.read_table(self._path / OFFLINE_FILE)
            self._write_offline(appended(older, rows))
            self._write_users(store, users)
            self._note_loaded(pc.max(rows["event_timestamp"]).as_py())
        return len(rows)

    def read(self, item_ids: Sequence[str]) -> dict[str, ItemFeatures]:
        """Online features in one call, without items that the store does not have.

        Raises:
            FeaturesUnavailableError: never materialized, or the store does not answer.
        """
        if not item_ids:
            return {}
        with self._reading, answers(self._path):
            try:
                found = self._open_reader().of(item_ids)
            except Exception:
                self._online = None  # its connection may be permanently broken
                raise
            self._ready = True
            return found

    def read_user(self, user_id: str) -> UserFeatures | None:
        """A user's features; None without any. Until the store has a view of users, nobody has any.

        Raises:
            FeaturesUnavailableError: never materialized, or the store does not answer.
        """
        with self._reading, answers(self._path):
            try:
                view = self._open_users()
                return view.of(user_id) if view else None
            except Exception:
                self._users = None
                raise

    def forget(self, user_id: str) -> None:
        """Delete a user's features, and never write any again.

        Raises:
            FeaturesUnavailableError: the store does not answer: call it again.
            SettingsError: the online store cannot delete a user.
        """
        with self._write_lock(), answers(self._path):
            forgotten_users.add(self._path, user_id)
            if (self._path / _YAML).is_file() and not self._registry_is_missing():
                UserView(self._open_writer()).delete(user_id)

    def freshness(self) -> datetime | None:
        """The newest event_timestamp that was loaded from this folder; reads one small file."""
        file = self._path / _LOADED
        return datetime.fromisoformat(json.loads(file.read_text())["newest"]) if file.is_file() else None

    def _open_reader(self) -> ItemView:
        if self._online is None:
            self._check_materialized()
            store = open_repository(self._path, self._password)
            try:
                self._online = ItemView(store)
            finally:
                close_connections(store)  # the view is all that reads need of the registry
        return self._online

    def _open_users(self) -> UserView | None:
        """An earlier release may have applied the definitions without it: the next write applies them."""
        if self._users is None and time.monotonic() > self._users_from_s:
            from feast.errors import FeatureViewNotFoundException

            self._check_materialized()
            store = open_repository(self._path, self._password)
            try:
                self._users = UserView(store)
            except FeatureViewNotFoundException:
                self._users_from_s = time.monotonic() + _USERS_AGAIN_S
            finally:
                close_connections(store)
        return self._users

    def _write_users(self, store: FeatureStore, users: pa.Table | None) -> None:
        if users is None and not self.has_users:
            return
        write_atomically(self._path / _USERS, "")
        rows = USERS_SCHEMA.empty_table() if users is None else users.cast(USERS_SCHEMA)
        UserView(store).replace(forgotten_users.without(self._path, rows))
        if users is None:
            (self._path / _USERS).unlink()

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
        with quiet():
            store.apply(definitions())
        if (online := self._path / ONLINE_FILE).is_file():
            let_readers_in_while_writing(online)
        write_atomically(applied, json.dumps({"key": key}))

    def _check_materialized(self) -> None:
        if not (self._path / _YAML).is_file() or self._registry_is_missing():
            never = f"the feature store {self._path} was never materialized: run `immr materialize`"
            raise FeaturesUnavailableError(never)

    def _registry_is_missing(self) -> bool:
        """Whether nothing was applied yet to a repository with our own `feature_store.yaml`."""
        proof = _APPLIED if self._sql_registry else REGISTRY_FILE
        return (self._path / _YAML).read_text() == self._yaml and not (self._path / proof).is_file()

    def _write_offline(self, rows: pa.Table) -> None:
        sink = pa.BufferOutputStream()
        pq.write_table(rows, sink)
        write_atomically(self._path / OFFLINE_FILE, sink.getvalue().to_pybytes())

    def _note_loaded(self, newest: datetime) -> None:
        former = self.freshness()
        if former is not None and not is_future(former):
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
