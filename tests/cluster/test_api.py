"""From a URL to the adapter, with a kubeconfig as people have it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from immr.errors import SettingsError
from immr.settings import Settings
from immr.wiring import connect
from tests.k8s import fake_api
from tests.k8s.fake_api import FakeApi


@pytest.fixture
def fake() -> Iterator[FakeApi]:
    with fake_api.serving() as api:
        yield api


def kubeconfig(fake: FakeApi, path: Path) -> str:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "fake",
        "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "me", "namespace": "mine"}}],
        "clusters": [{"name": "fake", "cluster": {"server": fake.url}}],
        "users": [{"name": "me", "user": {"token": "secret"}}],
    }
    path.write_text(json.dumps(config))
    return str(path)


def run(code: str, **environment: str) -> str:
    """In a separate process, because the kubeconfig is found through the environment."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("KUBE")}
    command = [
        sys.executable,
        "-c",
        f"from immr.wiring import connect\nfrom immr.settings import Settings\n{code}",
    ]
    done = subprocess.run(command, env=own | environment, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_urls_become_adapters(fake: FakeApi, tmp_path: Path) -> None:
    fake.put("configmaps", {"metadata": {"name": "immr-roles", "namespace": "shop"}})
    output = run(
        "print(type(connect(Settings()).launcher).__name__, list(connect(Settings()).deployer.current()))",
        KUBECONFIG=kubeconfig(fake, tmp_path / "config"),
        IMMR_HOME=str(tmp_path),
        IMMR_LAUNCH_URL="kubeflow://shop?gpus=1",
        IMMR_DEPLOY_URL="kserve://shop?max_replicas=2",
    )
    assert output == "KubeflowLauncher []\n"
    assert (fake.calls[-1].verb, fake.calls[-1].namespace) == ("list", "shop")


def test_a_url_without_a_namespace_uses_that_of_the_kubeconfig(fake: FakeApi, tmp_path: Path) -> None:
    fake.put("configmaps", {"metadata": {"name": "immr-roles", "namespace": "mine"}})
    run(
        "connect(Settings()).deployer.current()",
        KUBECONFIG=kubeconfig(fake, tmp_path / "config"),
        IMMR_DEPLOY_URL="kserve://?max_replicas=2",
    )
    assert {call.namespace for call in fake.calls} == {"mine"}


def test_an_unknown_name_in_a_url_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"unknown name .*: use one of"):
        _ = connect(Settings(home=tmp_path, launch_url="kubeflow://immr?gpu=1")).launcher


def test_a_missing_kubeconfig_is_named(tmp_path: Path) -> None:
    output = run("connect(Settings(deploy_url='kserve://immr')).deployer", KUBECONFIG=str(tmp_path / "none"))
    assert "SettingsError: no Kubernetes cluster is configured" in output
    assert "set KUBECONFIG" in output
