"""Roles move between versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from immr.errors import RegistryError
from immr.registry.registry import Registry
from tests.registry.conftest import register


def test_roles_move_between_versions_and_are_cleared(registry: Registry, home: Path) -> None:
    first, second = register(registry, home, "key-1"), register(registry, home, "key-2")
    registry.set_role("champion", first)
    registry.set_role("challenger", second)
    assert (registry.role("champion"), registry.role("challenger")) == (first, second)
    registry.set_role("champion", second)
    registry.clear_role("challenger")
    assert (registry.role("champion"), registry.role("challenger")) == (second, None)
    registry.clear_roles()
    assert registry.role("champion") is None


def test_a_version_can_hold_both_roles(registry: Registry, home: Path) -> None:
    first = register(registry, home, "key-1")
    registry.set_role("champion", first)
    registry.set_role("challenger", first)
    with pytest.raises(RegistryError, match=r"immr-1 \(challenger, champion\)"):
        registry.get("7")
