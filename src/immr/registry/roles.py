"""Roles: which version is the champion and which are challengers, as MLflow aliases."""

from __future__ import annotations

from immr.registry.store import Store
from immr.types import ModelVersion, Role


class Roles:
    """The roles of one registered model."""

    def __init__(self, store: Store, model_name: str) -> None:
        self._store = store
        self._name = model_name

    def numbers(self) -> dict[str, str]:
        """Version number, as text, by role; empty before the first version."""
        model = self._store.call("get_registered_model", self._name, or_none=True)
        return {} if model is None else {role: str(number) for role, number in model.aliases.items()}

    def set(self, role: Role, version: ModelVersion) -> None:
        """Give a version this role; the version that held it before loses it."""
        self._store.call("set_registered_model_alias", self._name, role, str(version.number))

    def clear(self, role: Role) -> None:
        """Take the role away from whichever version holds it."""
        if role in self.numbers():
            self._store.call("delete_registered_model_alias", self._name, role)
