"""The online rows of the view `user_clicks`.

They are written as a whole, and every other row is deleted. Feast has no call that deletes a row, so SQLite and Redis
do it themselves.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from immr.errors import SettingsError
from immr.features.definitions import USER_FEATURES, USER_VIEW
from immr.features.online_view import OnlineView
from immr.features.user_clicks import USER_TTL
from immr.types import UserFeatures

if TYPE_CHECKING:
    from feast import FeatureStore

_AT_ONCE = 1000  # users


class UserView(OnlineView):
    """The view keyed by `user_id`. On Redis, rows expire by themselves after `USER_TTL`."""

    def __init__(self, store: FeatureStore) -> None:
        """Look up the view.

        Raises:
            FeatureViewNotFoundException: it was never applied to the repository.
        """
        super().__init__(store, USER_VIEW, USER_FEATURES, "user_id")

    def of(self, user_id: str) -> UserFeatures | None:
        """The user's features; None without any, or if their time is more than `USER_TTL` ago."""
        found = self.read([user_id], datetime.now(UTC) - USER_TTL).get(user_id)
        if found is None:
            return None
        items, categories, prices, attributes = found
        return UserFeatures(
            tuple(items), tuple(categories), tuple(prices), tuple(json.loads(text) for text in attributes)
        )

    def replace(self, users: pa.Table) -> None:
        """Write the rows of a table of `USERS_SCHEMA`, and delete all others.

        Raises:
            SettingsError: the online store is neither SQLite nor Redis.
        """
        rows = self._rows_of_store()
        for batch in users.to_batches(_AT_ONCE):
            written = [self._row(row) for row in batch.to_pylist()]
            self._store.online_write_batch(_replacing(self._config), self._view, written, None)
        kept = {self._serialized(user) for user in users["user_id"].to_pylist()}
        rows.delete(key for key in rows.keys() if key not in kept)  # noqa: SIM118 - not a dict

    def delete(self, user_id: str) -> None:
        """Delete a user's row, if there is one.

        Raises:
            SettingsError: the online store is neither SQLite nor Redis.
        """
        self._rows_of_store().delete([self._serialized(user_id)])

    def _row(self, row: Mapping[str, Any]) -> tuple[Any, dict[str, Any], datetime, None]:
        from feast.protos.feast.types.Value_pb2 import DoubleList, StringList, Value

        values = {
            name: Value(double_list_val=DoubleList(val=row[name]))
            if name == "prices"
            else Value(string_list_val=StringList(val=row[name]))
            for name in USER_FEATURES
        }
        return self._key(row["user_id"]), values, row["event_timestamp"], None

    def _serialized(self, user_id: str) -> bytes:
        from feast.infra.key_encoding_utils import serialize_entity_key

        version = self._config.entity_key_serialization_version
        return serialize_entity_key(self._key(user_id), entity_key_serialization_version=version)

    def _rows_of_store(self) -> _SqliteRows | _RedisRows:
        kind = self._config.online_store.type
        if kind == "sqlite":
            return _SqliteRows(self._store, self._config, self._view)
        if kind == "redis":
            return _RedisRows(self._store, self._config, self._view)
        raise SettingsError(
            f"feature_store.yaml names the online store {kind}, from which IMMR cannot delete a user: use "
            "SQLite or Redis, or turn `personal` off in the recipe"
        )


def _replacing(config: Any) -> Any:
    """The configuration with which Redis replaces newer rows too, and lets rows expire."""
    if config.online_store.type != "redis":
        return config
    changed = copy.copy(config)
    options = {"skip_dedup": True, "key_ttl_seconds": int(USER_TTL.total_seconds())}
    changed._online_store = config.online_store.model_copy(update=options)
    return changed


class _SqliteRows:
    """The view's table; a key is an entity key as Feast serializes it."""

    def __init__(self, store: Any, config: Any, view: Any) -> None:
        from feast.infra.online_stores.helpers import compute_table_id

        self._connection = store._get_conn(config)
        name = compute_table_id(config.project, view, config.registry.enable_online_feature_view_versioning)
        self._table = '"' + name.replace('"', '""') + '"'
        self._connection.execute("PRAGMA secure_delete = ON")  # overwrites what is replaced or deleted

    def keys(self) -> list[bytes]:
        return [key for (key,) in self._connection.execute(f"SELECT DISTINCT entity_key FROM {self._table}")]

    def delete(self, keys: Iterable[bytes]) -> None:
        with self._connection:
            self._connection.executemany(
                f"DELETE FROM {self._table} WHERE entity_key = ?", [(key,) for key in keys]
            )
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()  # the log has copies of rows


class _RedisRows:
    """The view's fields in the hashes of users, which other views of the project may share."""

    def __init__(self, store: Any, config: Any, view: Any) -> None:
        from feast.infra.online_stores.helpers import _mmh3, _redis_key_prefix

        self._client = store._get_client(config.online_store)
        self._prefix, self._project = _redis_key_prefix(view.join_keys), config.project.encode()
        self._time = f"_ts:{view.name}"
        self._fields = [*(_mmh3(f"{view.name}:{name}") for name in USER_FEATURES), self._time]

    def keys(self) -> Iterator[bytes]:
        for found in self._client.scan_iter(b"".join([self._prefix, b"*", self._project]), _AT_ONCE):
            yield found.removesuffix(self._project)

    def delete(self, keys: Iterable[bytes]) -> None:
        with self._client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hdel(key + self._project, *self._fields)
                if len(pipe) == _AT_ONCE:
                    pipe.execute()
            pipe.execute()
