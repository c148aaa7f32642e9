"""The component redis: its start script and probes run with a real server, and every reader gets its Secret."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from immr.features.redis_url import RedisUrl
from pipelines import cluster
from tests.k8s.test_manifests import composed, named, settings_of, titled
from tests.support import redis_process
from tests.support.upstream_process import free_port

SECRET_PATH = cluster.REDIS_SECRET_PATH


def container() -> dict[str, Any]:
    objects = {titled(one): one for one in composed("redis")}
    (found,) = objects["StatefulSet/redis"]["spec"]["template"]["spec"]["containers"]
    return dict(found)


def test_the_script_and_the_probes_work_with_a_real_server(tmp_path: Path) -> None:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed: `make redis` installs it with apt")
    port, password = free_port(), "0123456789abcdef"
    redis_process.make_certificate(tmp_path, "IP:127.0.0.1")
    shutil.copyfile(tmp_path / "tls.crt", tmp_path / "ca.crt")
    (tmp_path / "password").write_text(password)

    def here(text: str) -> str:
        return (
            text.replace(SECRET_PATH, str(tmp_path))
            .replace("/data", str(tmp_path))
            .replace("6379", str(port))
        )

    command = [*container()["command"], *map(here, container()["args"])]
    client = {"password": password, "ssl": True, "ssl_ca_certs": str(tmp_path / "ca.crt")}
    with redis_process.running(command, port=port, **client):
        for probe in ("livenessProbe", "readinessProbe"):
            ping = [here(part) for part in container()[probe]["exec"]["command"]]
            asked = [ping[0], "-p", str(port), *ping[1:]]
            for variables, answer in (({"REDISCLI_AUTH": password}, "PONG"), ({}, "NOAUTH")):
                done = subprocess.run(
                    asked, env=os.environ | variables, capture_output=True, text=True, check=False
                )
                assert answer in done.stdout + done.stderr
                # a server that answers with an error lives, but is not ready: it is loading its data, for example
                assert (done.returncode == 0) == (answer == "PONG" or probe == "livenessProbe")


def test_a_full_store_refuses_writes_before_its_pod_is_killed_for_memory() -> None:
    """`noeviction` takes effect only with a limit; a copy-on-write rewrite of the file needs room beside it."""
    (script,) = container()["args"]
    (most,) = re.findall(r"--maxmemory (\d+)mb", script)
    assert container()["resources"]["limits"]["memory"] == "2Gi"
    assert 0.5 * 2048 < int(most) < 0.75 * 2048


def test_production_reads_features_over_tls_and_keeps_feasts_registry_in_postgresql() -> None:
    settings = settings_of("production")
    url = RedisUrl.parse(settings["IMMR_FEATURES_URL"])
    assert url.tls and Path(url.ca).parent == Path(SECRET_PATH)
    assert settings["IMMR_FEATURES_PASSWORD_FILE"] == f"{SECRET_PATH}/password"
    assert settings["IMMR_FEATURES_REGISTRY_URL"] == settings["IMMR_EVENTS_URL"]
    assert settings_of("kind")["IMMR_FEATURES_PASSWORD_FILE"] == ""


def test_every_pod_that_opens_the_feature_store_has_the_secret() -> None:
    page = named("production", "Deployment", "page")["spec"]["template"]["spec"]
    bento = named("production", "ServingRuntime", "immr-bento")["spec"]
    for pod in (page, bento):
        (only,) = pod["containers"]
        (name,) = (one["name"] for one in only["volumeMounts"] if one["mountPath"] == SECRET_PATH)
        (secret,) = (one["secret"] for one in pod["volumes"] if one["name"] == name)
        assert secret["secretName"] == cluster.REDIS_SECRET
        assert {one["key"] for one in secret["items"]} == {"password", "ca.crt"}, "clients get no private key"
        assert "PGPASSWORD" in {one["name"] for one in only["env"]}
