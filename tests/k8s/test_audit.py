"""Audit logs against Roles: how they are read, and a real one if IMMR_TEST_AUDIT_LOG names it.

On a cluster whose API server writes an audit log (level Metadata is enough), after runs with both training operators:
    export IMMR_TEST_AUDIT_LOG=audit.log IMMR_TEST_AUDIT_NAMESPACE=kubeflow IMMR_TEST_AUDIT_ACCOUNT=pipeline-runner
    pytest tests/k8s/test_audit.py
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.k8s.audit import Comparison, used
from tests.k8s.rbac import allowed

PERMISSIONS = {
    ("", "pods", "get", ""),
    ("", "pods/log", "get", ""),
    ("", "configmaps", "patch", "immr-roles"),
}


def event(verb: str, resource: str, name: str = "", **changes: Any) -> str:
    resource, _, sub = resource.partition("/")
    target = {"resource": resource, "namespace": "shop", "name": name, "apiVersion": "v1"}
    if sub:
        target["subresource"] = sub
    body = {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "stage": "ResponseComplete",
        "verb": verb,
        "user": {"username": "system:serviceaccount:shop:steps"},
        "objectRef": target,
    }
    return json.dumps(body | changes)


def test_calls_of_one_account_in_its_namespace_are_read() -> None:
    lines = [
        event("get", "pods/log", "train-0"),
        event("get", "pods", "train-0", user={"username": "system:serviceaccount:shop:others"}),
        event("get", "pods", "train-0", stage="RequestReceived"),
        event("create", "selfsubjectaccessreviews", objectRef={"resource": "selfsubjectaccessreviews"}),
        event("get", "version", objectRef=None),
        "",
    ]
    assert used(lines, "shop", "steps") == {("", "pods/log", "get", "train-0")}


def test_a_call_without_a_role_and_a_role_without_a_call_are_found() -> None:
    lines = [
        event("get", "pods", "train-0"),
        event("get", "pods", "train-1"),
        event("patch", "configmaps", "immr-roles"),
        event("patch", "configmaps", "other"),
    ]
    compared = Comparison.of(used(lines, "shop", "steps"), PERMISSIONS)
    assert compared.forbidden == {("", "configmaps", "patch", "other")}
    assert compared.unused == {("", "pods/log", "get", "")}


def test_no_verb_was_used_without_its_role_and_none_granted_unused() -> None:
    log = os.environ.get("IMMR_TEST_AUDIT_LOG")
    if not log:
        pytest.skip("no audit log: set IMMR_TEST_AUDIT_LOG to the file that an API server wrote")
    namespace = os.environ.get("IMMR_TEST_AUDIT_NAMESPACE", "kubeflow")
    account = os.environ.get("IMMR_TEST_AUDIT_ACCOUNT", "pipeline-runner")
    with Path(log).open() as lines:
        calls = used(lines, namespace, account)
    roles = ("pipeline-role.yaml", "kfp-step-role.yaml")
    permissions = set().union(*map(allowed, roles))
    assert calls, f"{log} has no call of {account} in {namespace}"
    compared = Comparison.of(calls, permissions)
    assert compared == Comparison(set(), set())
