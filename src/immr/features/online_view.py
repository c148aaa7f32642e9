"""The online rows of one feature view, read through Feast's interface for online stores."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from feast import FeatureStore
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey

_PLAIN = ("double_val", "string_val", "int64_val")


class OnlineView:
    """A view with one entity.

    `FeatureStore.get_online_features` rebuilds the view from the registry and converts every value twice per
    call. That doubles the time of a read, and every search waits for one (docs/measurements/serving-speed.md).
    """

    def __init__(self, store: FeatureStore, view: str, features: Sequence[str], entity: str) -> None:
        from feast.infra.online_stores.helpers import get_online_store_from_config

        self._config = store.config
        self._view = store.get_feature_view(view)
        self._features = tuple(features)
        self._entity = entity
        self._store: Any = get_online_store_from_config(store.config.online_store)

    def read(self, ids: Sequence[str], since: datetime | None = None) -> dict[str, list[Any]]:
        """Values in the order of the features, None for one that is not set.

        Args:
            ids: unknown ones are left out.
            since: older rows are left out.
        """
        from feast.protos.feast.types.Value_pb2 import Value

        rows = self._rows(ids)
        unset = Value()
        return {
            one: [_python_value(values.get(name, unset)) for name in self._features]
            for one, (time, values) in zip(ids, rows, strict=True)
            if values and (since is None or (time is not None and _with_zone(time) >= since))
        }

    def newest(self, ids: Sequence[str]) -> datetime | None:
        """The newest event_timestamp among the rows of these ids; None if the store has none of them."""
        times = [_with_zone(time) for time, _ in self._rows(ids) if time is not None]
        return max(times, default=None)

    def clear(self) -> None:
        """Delete all rows of the view, for a store that can (Redis).

        Raises:
            AttributeError: The store cannot delete all rows at once.
        """
        self._store.delete_table(self._config, self._view)

    def _rows(self, ids: Sequence[str]) -> list[tuple[datetime | None, dict[str, Any] | None]]:
        rows: list[tuple[datetime | None, dict[str, Any] | None]] = self._store.online_read(
            self._config, self._view, [self._key(one) for one in ids], list(self._features)
        )
        return rows

    def _key(self, one: str) -> EntityKey:
        from feast.protos.feast.types.EntityKey_pb2 import EntityKey
        from feast.protos.feast.types.Value_pb2 import Value

        return EntityKey(join_keys=[self._entity], entity_values=[Value(string_val=one)])


def _python_value(value: Any) -> Any:
    """A search converts 200 values, and Feast's own conversion first rules out fifteen kinds of collections."""
    kind = value.WhichOneof("val")
    if kind in _PLAIN:
        return getattr(value, kind)
    from feast.type_map import feast_value_type_to_python_type

    return feast_value_type_to_python_type(value)


def _with_zone(time: datetime) -> datetime:
    return time if time.tzinfo else time.replace(tzinfo=UTC)
