"""Feast's file registry with atomic writes: Feast's own truncates the file while other processes read it.

`feature_store.yaml` names the class, and Feast imports it by that name.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

from feast.infra.registry.file import FileRegistryStore

from immr.storage.atomic import write_atomically


class WholeFileRegistryStore(FileRegistryStore):
    """The same file, replaced atomically."""

    def _write_registry(self, registry_proto: Any) -> None:
        registry_proto.version_id = str(uuid.uuid4())
        registry_proto.last_updated.FromDatetime(datetime.now(UTC))
        write_atomically(self._filepath, registry_proto.SerializeToString())
