"""One feature view's online rows, by the interface that Feast asks of every online store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from feast import FeatureStore


class OnlineView:
    """A view keyed by `item_id`.

    `FeatureStore.get_online_features` makes the view anew from the registry and turns every value twice, at
    each call: that doubles the time of a read, and a search waits for it (docs/serving-speed.md).
    """

    def __init__(self, store: FeatureStore, view: str, features: Sequence[str]) -> None:
        from feast.infra.online_stores.helpers import get_online_store_from_config

        self._config = store.config
        self._view = store.get_feature_view(view)
        self._features = tuple(features)
        self._store = get_online_store_from_config(store.config.online_store)

    def read(self, item_ids: Sequence[str]) -> dict[str, list[Any]]:
        """Values in the order of the features, None where one is not set; unknown items are left out."""
        from feast.protos.feast.types.EntityKey_pb2 import EntityKey
        from feast.protos.feast.types.Value_pb2 import Value
        from feast.type_map import feast_value_type_to_python_type

        keys = [
            EntityKey(join_keys=["item_id"], entity_values=[Value(string_val=item_id)])
            for item_id in item_ids
        ]
        rows = self._store.online_read(self._config, self._view, keys, list(self._features))
        unset = Value()
        return {
            item_id: [feast_value_type_to_python_type(values.get(name, unset)) for name in self._features]
            for item_id, (_, values) in zip(item_ids, rows, strict=True)
            if values
        }
