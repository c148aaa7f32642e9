"""Custom resources against their definitions, strictly: an unknown field is a problem too.

A small validator of structural OpenAPI v3 schemas: type, properties, required, items, enum, pattern, bounds,
int-or-string, preserve-unknown-fields, nullable. CEL rules (`x-kubernetes-validations`) are not evaluated.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PRESERVE, INT_OR_STRING = "x-kubernetes-preserve-unknown-fields", "x-kubernetes-int-or-string"
TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
}


def folder() -> Path | None:
    """$IMMR_CRDS, or shared/crds beside the repository; None if neither exists."""
    for candidate in (os.environ.get("IMMR_CRDS"), ROOT.parent / "shared" / "crds"):
        if candidate and Path(candidate).is_dir():
            return Path(candidate)
    return None


def needed() -> None:
    """Skip the test, with the reason, if there are no definitions."""
    if folder() is None:
        pytest.skip("no custom resource definitions: set IMMR_CRDS to a folder of upstream CRD files")


@functools.cache
def schema(group: str, version: str, kind: str) -> dict[str, Any] | None:
    """A kind's schema; None if no file defines it."""
    found = folder()
    assert found is not None
    for path in sorted(found.rglob("*.yaml")):
        head = path.read_text()
        if f"kind: {kind}\n" not in head or group not in head:
            continue
        for definition in yaml.load_all(head, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            spec = (definition or {}).get("spec", {})
            if spec.get("group") == group and spec.get("names", {}).get("kind") == kind:
                for one in spec["versions"]:
                    if one["name"] == version:
                        schema_of: dict[str, Any] = one["schema"]["openAPIV3Schema"]
                        return schema_of
    return None


def problems(body: dict[str, Any]) -> list[str]:
    """The reasons for which an API server would refuse this custom resource.

    Raises:
        LookupError: There is no definition of its kind and version.
    """
    group, _, version = body["apiVersion"].partition("/")
    found = schema(group, version, body["kind"])
    if found is None:
        raise LookupError(f"no definition of {body['apiVersion']} {body['kind']}")
    metadata = {name: {} for name in ("metadata",) if name in body and name in found["properties"]}
    checked = {name: value for name, value in body.items() if name != "metadata"}  # which is Kubernetes' own
    return list(_problems(checked | metadata, found, body["kind"]))


def _problems(value: Any, schema: dict[str, Any], at: str) -> Iterator[str]:
    if value is None:
        if not schema.get("nullable"):
            yield f"{at}: null"
        return
    if schema.get(INT_OR_STRING):
        if not isinstance(value, int | str) or isinstance(value, bool):
            yield f"{at}: {value!r} is neither a whole number nor a string"
        elif isinstance(value, str) and "pattern" in schema and not re.search(schema["pattern"], value):
            yield f"{at}: {value!r} does not match {schema['pattern']}"
        return
    expected = schema.get("type")
    if expected and (
        not isinstance(value, TYPES[expected]) or (isinstance(value, bool) and expected != "boolean")
    ):
        yield f"{at}: {value!r} is no {expected}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{at}: {value!r} is none of {schema['enum']}"
    if isinstance(value, dict):
        yield from _object_problems(value, schema, at)
    elif isinstance(value, list):
        yield from _array_problems(value, schema, at)
    elif isinstance(value, str):
        yield from _string_problems(value, schema, at)
    elif not isinstance(value, bool) and not (
        schema.get("minimum", value) <= value <= schema.get("maximum", value)
    ):
        yield f"{at}: {value} is out of bounds"


def _object_problems(value: dict[str, Any], schema: dict[str, Any], at: str) -> Iterator[str]:
    properties, others = schema.get("properties", {}), schema.get("additionalProperties")
    for name in schema.get("required", []):
        if name not in value:
            yield f"{at}.{name}: is required"
    for name, part in value.items():
        if name in properties:
            yield from _problems(part, properties[name], f"{at}.{name}")
        elif isinstance(others, dict):
            yield from _problems(part, others, f"{at}.{name}")
        elif not others and not schema.get(PRESERVE) and not schema.get("x-kubernetes-embedded-resource"):
            yield f"{at}.{name}: is not known"


def _array_problems(value: list[Any], schema: dict[str, Any], at: str) -> Iterator[str]:
    if len(value) > schema.get("maxItems", len(value)) or len(value) < schema.get("minItems", 0):
        yield f"{at}: {len(value)} items"
    for number, part in enumerate(value):
        yield from _problems(part, schema.get("items", {}), f"{at}[{number}]")


def _string_problems(value: str, schema: dict[str, Any], at: str) -> Iterator[str]:
    if "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"{at}: {value!r} does not match {schema['pattern']}"
    if len(value) > schema.get("maxLength", len(value)) or len(value) < schema.get("minLength", 0):
        yield f"{at}: {value!r} has the wrong length"
