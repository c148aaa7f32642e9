"""A real container registry (Debian's docker-registry) that asks for a password."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.patience import until
from tests.support.upstream_process import free_port

USER, PASSWORD = "shop", "secret"
_HASH = "$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a"  # bcrypt of the password


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Run a registry; yields its host. Docker's configuration with the login is `<folder>/config.json`."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("docker-registry is not installed: apt-get install docker-registry")
    host = f"127.0.0.1:{free_port()}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "htpasswd").write_text(f"{USER}:{_HASH}\n")
    (folder / "config.json").write_text(
        json.dumps({"auths": {host: {"username": USER, "password": PASSWORD}}})
    )
    settings = {
        "version": "0.1",
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "images")}},
        "http": {"addr": host},
        "auth": {"htpasswd": {"realm": "shop", "path": str(folder / "htpasswd")}},
    }
    (folder / "config.yml").write_text(json.dumps(settings))  # JSON is YAML
    command = [program, "serve", str(folder / "config.yml")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:

            def answers() -> bool:
                assert process.poll() is None, "docker-registry exited"
                try:
                    return httpx.get(f"http://{host}/v2/", trust_env=False).status_code == 401
                except httpx.HTTPError:
                    return False

            until(answers)
            yield host
        finally:
            process.terminate()


def pulled(host: str, repository: str, reference: str) -> tuple[dict[str, object], dict[str, bytes]]:
    """An image's manifest and its blobs by digest, read with the registry's own API."""
    accept = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
    with httpx.Client(auth=(USER, PASSWORD), headers=accept, trust_env=False) as client:

        def read(path: str) -> httpx.Response:
            return client.get(f"http://{host}/v2/{repository}/{path}").raise_for_status()

        manifest = read(f"manifests/{reference}").json()
        digests = [part["digest"] for part in (manifest["config"], *manifest["layers"])]
        return manifest, {each: read(f"blobs/{each}").content for each in digests}
