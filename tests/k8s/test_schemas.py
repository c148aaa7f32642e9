"""The validator itself: it must refuse what an API server refuses."""

from __future__ import annotations

from typing import Any

import pytest

from tests.k8s import schemas


def route(**rule: Any) -> dict[str, Any]:
    spec = {"parentRefs": [{"name": "gateway"}], "rules": [rule]}
    return {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {}, "spec": spec}


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ({"backendRefs": [{"name": "gateway", "port": 80}]}, None),
        ({"backendRefs": [{"name": "gateway", "port": 80, "prot": 1}]}, "prot: is not known"),
        ({"backendRefs": [{"port": 80}]}, "name: is required"),
        ({"backendRefs": [{"name": "gateway", "port": "80"}]}, "is no integer"),
        ({"backendRefs": [{"name": "gateway", "port": 70000}]}, "out of bounds"),
        ({"matches": [{"method": "FETCH"}]}, "is none of"),
        ({"timeouts": {"request": "soon"}}, "does not match"),
        ({"backendRefs": None}, "null"),
    ],
)
def test_the_validator_finds_what_an_api_server_refuses(rule: dict[str, Any], problem: str | None) -> None:
    schemas.needed()
    found = schemas.problems(route(**rule))
    assert (problem is None and not found) or (problem is not None and problem in "; ".join(found))


def test_a_kind_without_a_definition_is_an_error_not_a_pass() -> None:
    schemas.needed()
    with pytest.raises(LookupError, match="Nothing"):
        schemas.problems({"apiVersion": "kubeflow.org/v1", "kind": "Nothing"})
