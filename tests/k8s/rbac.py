"""What the Roles in k8s/base/accounts allow."""

from __future__ import annotations

import yaml

from tests.k8s import schemas


def allowed(file: str) -> set[tuple[str, str, str, str]]:
    """(group, resource, verb, name) of the file's Role; the name is empty if any is allowed."""
    role, *_ = yaml.safe_load_all((schemas.ROOT / "k8s/base/accounts" / file).read_text())
    return {
        (group, resource, verb, name)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        for name in rule.get("resourceNames", [""])
    }
