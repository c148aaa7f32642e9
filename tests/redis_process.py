"""A real Redis for tests, where Debian's server is at hand."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def serving(folder: Path) -> Iterator[int]:
    """A server on a free port of this machine that keeps nothing; yields the port."""
    redis = pytest.importorskip("redis", reason="the Redis client is not installed: `make setup`")
    if shutil.which("redis-server") is None:
        pytest.skip("there is no redis-server: `make redis` installs it where apt is at hand")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert any("Ready to accept connections" in line for line in process.stdout), "it has ended"
            with redis.Redis(port=port) as client:
                assert client.ping()
            yield port
        finally:
            process.terminate()


def forget_everything(port: int) -> None:
    """Empty the server."""
    import redis

    with redis.Redis(port=port) as client:
        client.flushall()
