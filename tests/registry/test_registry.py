"""Lookups, tags and decisions across versions and roles."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from unittest import mock

import pytest

from immr.errors import RegistryError
from immr.registry.registry import Registry
from immr.registry.roles import Roles
from tests.registry.conftest import open_registry, register


def test_an_empty_registry_asks_for_training(registry: Registry) -> None:
    assert registry.versions() == []
    assert registry.find("k") is None
    assert registry.role("champion") is None
    registry.clear_roles()
    with pytest.raises(RegistryError, match="none is registered yet: run `immr train`"):
        registry.get("champion")


@pytest.mark.parametrize("reference", ["immr-2", "2", "challenger"])
def test_a_version_is_found_by_id_number_or_role(registry: Registry, home: Path, reference: str) -> None:
    register(registry, home, "key-1")
    second = register(registry, home, "key-2")
    registry.set_role("challenger", second)
    assert registry.get(reference) == second


def test_to_find_a_version_by_its_id_the_roles_are_not_requested(registry: Registry, home: Path) -> None:
    first = register(registry, home, "key-1")
    with mock.patch.object(Roles, "numbers", side_effect=AssertionError):
        assert registry.get("immr-1") == first


@pytest.mark.parametrize("reference", ["immr-9", "9", "best", "champion", "other-1", ""])
def test_an_unknown_reference_is_an_error_that_lists_the_versions(
    registry: Registry, home: Path, reference: str
) -> None:
    register(registry, home, "key-1")
    second = register(registry, home, "key-2")
    registry.set_role("challenger", second)
    with pytest.raises(RegistryError, match=r"known versions: immr-1, immr-2 \(challenger\)"):
        registry.get(reference)


def test_setting_a_tag_again_replaces_its_value(registry: Registry, home: Path) -> None:
    first = register(registry, home, "key-1")
    registry.tag(first, "gate", "no")
    registry.tag(first, "gate", "yes")
    assert registry.tags(first)["gate"] == "yes"


def test_a_decision_is_logged_and_tagged_on_the_version(registry: Registry, home: Path) -> None:
    first, second = register(registry, home, "key-1"), register(registry, home, "key-2")
    ts = datetime(2025, 1, 2, tzinfo=UTC)
    decision = registry.record_decision(
        "promote", "It earned more clicks.", {"lift": 0.1}, first, second, ts, experiment="immr-1-immr-2"
    )
    assert decision == {
        "ts": "2025-01-02T00:00:00+00:00",
        "action": "promote",
        "reason": "It earned more clicks.",
        "numbers": {"lift": 0.1},
        "champion": "immr-1",
        "challenger": "immr-2",
        "experiment": "immr-1-immr-2",
        "applied": True,
    }
    registry.record_decision("wait", "Too early.", {}, first, None, ts)
    assert [decision["action"] for decision in open_registry(home).decisions()] == ["promote", "wait"]
    assert '"promote"' in registry.tags(second)["immr.decision"]
    assert '"wait"' in registry.tags(first)["immr.decision"]
