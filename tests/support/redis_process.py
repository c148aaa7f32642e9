"""A real Redis server, if `redis-server` is installed."""

import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def serving(folder: Path, port: int = 0) -> Iterator[int]:
    """Run a server without persistence on this port, or on a free one; yields the port."""
    port = _free(port)
    command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", str(folder)]
    with running(command, port=port):
        yield port


@contextmanager
def serving_with_tls(folder: Path, password: str) -> Iterator[int]:
    """Run a server that only accepts TLS, with `tls.crt` of this folder, and this password; yields the port."""
    port = _free()
    configuration = folder / "redis.conf"
    configuration.write_text(
        f'port 0\ntls-port {port}\ntls-auth-clients no\nsave ""\nrequirepass "{password}"\n'
    )
    command = ["redis-server", str(configuration), "--bind", "127.0.0.1", "--dir", str(folder)]
    for option, file in (("cert-file", "tls.crt"), ("key-file", "tls.key"), ("ca-cert-file", "tls.crt")):
        command += [f"--tls-{option}", str(folder / file)]
    with running(command, port=port, password=password, ssl=True, ssl_ca_certs=str(folder / "tls.crt")):
        yield port


@contextmanager
def running(command: Sequence[str], **client: Any) -> Iterator[None]:
    """Run a server until the block ends; it has answered a client with these arguments."""
    redis = pytest.importorskip("redis", reason="the Redis client is not installed: `make setup`")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert any("Ready to accept connections" in line for line in process.stdout), (
                "redis-server exited"
            )
            with redis.Redis("127.0.0.1", **client) as connection:
                assert connection.ping()
            yield
        finally:
            process.terminate()


def make_certificate(folder: Path, name: str) -> None:
    """Write a self-signed certificate for an address (`IP:127.0.0.1`, `DNS:redis`) and its key into a folder."""
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    command += ["-subj", "/CN=redis", "-days", "2", "-addext", f"subjectAltName={name}"]
    command += ["-keyout", str(folder / "tls.key"), "-out", str(folder / "tls.crt")]
    subprocess.run(command, check=True, capture_output=True)


def forget_everything(port: int) -> None:
    """Delete all keys."""
    import redis

    with redis.Redis(port=port) as client:
        client.flushall()


def _free(port: int = 0) -> int:
    """This port, or a free one."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed: `make redis` installs it with apt")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        return int(probe.getsockname()[1])
