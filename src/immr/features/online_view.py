"""The online rows of one feature view, read through Feast's interface for online stores."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from feast import FeatureStore

_PLAIN = ("double_val", "string_val", "int64_val")


class OnlineView:
    """A view keyed by `item_id`.

    `FeatureStore.get_online_features` rebuilds the view from the registry and converts every value twice per
    call. That doubles the time of a read, and every search waits for one (docs/serving-speed.md).
    """

    def __init__(self, store: FeatureStore, view: str, features: Sequence[str]) -> None:
        from feast.infra.online_stores.helpers import get_online_store_from_config

        self._config = store.config
        self._view = store.get_feature_view(view)
        self._features = tuple(features)
        self._store: Any = get_online_store_from_config(store.config.online_store)

    def read(self, item_ids: Sequence[str]) -> dict[str, list[Any]]:
        """Values in the order of the features, None for one that is not set; unknown items are left out."""
        from feast.protos.feast.types.Value_pb2 import Value

        rows = self._rows(item_ids)
        unset = Value()
        return {
            item_id: [_python_value(values.get(name, unset)) for name in self._features]
            for item_id, (_, values) in zip(item_ids, rows, strict=True)
            if values
        }

    def newest(self, item_ids: Sequence[str]) -> datetime | None:
        """The newest event_timestamp among the rows of these items; None if the store has none of them."""
        times = [_with_zone(time) for time, _ in self._rows(item_ids) if time is not None]
        return max(times, default=None)

    def clear(self) -> None:
        """Delete all rows of the view, for a store that can (Redis).

        Raises:
            AttributeError: it cannot.
        """
        self._store.delete_table(self._config, self._view)

    def _rows(self, item_ids: Sequence[str]) -> list[tuple[datetime | None, dict[str, Any] | None]]:
        from feast.protos.feast.types.EntityKey_pb2 import EntityKey
        from feast.protos.feast.types.Value_pb2 import Value

        keys = [
            EntityKey(join_keys=["item_id"], entity_values=[Value(string_val=item_id)])
            for item_id in item_ids
        ]
        rows: list[tuple[datetime | None, dict[str, Any] | None]] = self._store.online_read(
            self._config, self._view, keys, list(self._features)
        )
        return rows


def _python_value(value: Any) -> Any:
    """A search converts 200 values, and Feast's own conversion first rules out fifteen kinds of collections."""
    kind = value.WhichOneof("val")
    if kind in _PLAIN:
        return getattr(value, kind)
    from feast.type_map import feast_value_type_to_python_type

    return feast_value_type_to_python_type(value)


def _with_zone(time: datetime) -> datetime:
    return time if time.tzinfo else time.replace(tzinfo=UTC)
