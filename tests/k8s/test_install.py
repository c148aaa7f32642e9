"""The scripts that install IMMR: rendered objects, several shops in one cluster, Secrets."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from immr import __version__
from tests.k8s import schemas

K8S = schemas.ROOT / "k8s"
CLUSTER_WIDE = {"Namespace"}


def rendered(*arguments: str) -> list[dict[str, Any]]:
    if shutil.which("kubectl") is None:
        pytest.skip("no kubectl: the overlays cannot be built")
    done = subprocess.run(["sh", K8S / "render.sh", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not list((K8S / "overlays").glob(".render-*"))
    return list(yaml.safe_load_all(done.stdout))


def images(value: Any) -> set[str]:
    if isinstance(value, dict):
        here = {value["image"]} if isinstance(value.get("image"), str) else set()
        return here.union(*map(images, value.values()))
    return set().union(*map(images, value)) if isinstance(value, list) else set()


def strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for part in value.values() for text in strings(part)]
    if isinstance(value, list):
        return [text for part in value for text in strings(part)]
    return [value] if isinstance(value, str) else []


def test_images_come_from_the_given_registry() -> None:
    ours = {image for image in images(rendered("kind", "registry.example/shop", "9.9")) if "/shop/" in image}
    assert ours == {f"registry.example/shop/{name}:9.9" for name in ("pipeline-python", "serving", "gateway")}
    default = images(rendered("kind", "registry.example/shop"))
    assert f"registry.example/shop/gateway:{__version__}" in default
    assert not [image for image in default if image.startswith("immr/")]


def test_two_shops_in_one_cluster_do_not_clash() -> None:
    shops = {
        name: rendered("production", "registry.example/immr", "1", name) for name in ("shop-a", "shop-b")
    }
    seen: set[tuple[str, str, str]] = set()
    for shop, objects in shops.items():
        other = next(name for name in shops if name != shop)
        for one in objects:
            kind, metadata = one["kind"], one["metadata"]
            title = (kind, metadata.get("namespace", ""), metadata["name"])
            assert title not in seen, title
            seen.add(title)
            assert metadata.get("namespace") == shop or (kind in CLUSTER_WIDE and metadata["name"] == shop), (
                title
            )
            if kind == "RoleBinding":
                assert {subject["namespace"] for subject in one["subjects"]} == {shop}
                assert one["roleRef"]["kind"] == "Role"
            if kind == "PrometheusRule":
                expressions = [rule["expr"] for group in one["spec"]["groups"] for rule in group["rules"]]
                assert all(f'namespace="{shop}"' in expression for expression in expressions)
            # host names have no namespace, so none leads to another shop
            assert not [
                text for text in strings(one) if other in text or re.search(r"\.immr(\.svc|:|/|$)", text)
            ]
    assert len(seen) == sum(map(len, shops.values()))


def test_an_overlay_as_in_the_docs_puts_the_objects_of_every_component_into_its_namespace() -> None:
    """Without `namespace:` they are created in `default`, and nothing says so."""
    text = (schemas.ROOT / "docs" / "kubernetes-options.md").read_text()
    shown = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    own = K8S / "overlays" / ".test-mine"
    already = {"cpu-scaling", "mlflow-s3", "redis"}  # in `production`, or instead of a part of it
    for component in sorted({path.name for path in (K8S / "components").iterdir()} - already):
        own.mkdir(exist_ok=True)  # left by a test that was killed
        try:
            mine = shown | {"components": [f"../../components/{component}"]}
            (own / "kustomization.yaml").write_text(yaml.safe_dump(mine, sort_keys=False))
            made = rendered(own.name, "registry.example/immr")
        finally:
            shutil.rmtree(own)
        elsewhere = [one for one in made if one["metadata"].get("namespace") != "immr"]
        assert {one["kind"] for one in elsewhere} <= CLUSTER_WIDE, component


def test_one_version_names_all_images() -> None:
    """Rendering replaces the tags; these are for `kubectl apply -k`, and for images built with `make images`."""
    tags = {
        (file.name, tag)
        for file in K8S.rglob("*")
        if file.suffix in (".yaml", ".Dockerfile")
        for tag in re.findall(r"\bimmr/[a-z-]+:([\w.]+)", file.read_text())
    }
    assert {tag for _, tag in tags} == {__version__}


def test_secrets_are_created_once(tmp_path: Path) -> None:
    """With a kubectl that keeps the Secrets in a folder."""
    kept = tmp_path / "kept"
    kept.mkdir()
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(
        "#!/bin/sh\n"
        f'if [ "$3" = get ]; then test -d "{kept}/$5"; exit; fi\n'
        f'name=$6; mkdir -p "{kept}/$name"; shift 6\n'
        f'for each; do cp "${{each#--from-file=}}" "{kept}/$name"; done\n'
    )
    kubectl.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}

    def run() -> dict[str, bytes]:
        subprocess.run(["sh", K8S / "secrets.sh", "shop-a"], env=environment, check=True)
        return {str(file.relative_to(kept)): file.read_bytes() for file in kept.rglob("*") if file.is_file()}

    made = run()
    assert set(made) == {
        "immr-click-tokens/token.key",
        "immr-postgres/password",
        *(f"immr-redis/{name}" for name in ("password", "ca.crt", "tls.crt", "tls.key")),
    }
    assert len(made["immr-click-tokens/token.key"]) == 32
    passwords = [made["immr-postgres/password"], made["immr-redis/password"]]
    assert all(re.fullmatch(rb"[0-9a-f]{48}", password) for password in passwords)
    assert passwords[0] != passwords[1]
    assert run() == made
