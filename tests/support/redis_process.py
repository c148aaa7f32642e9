"""A real Redis server, if `redis-server` is installed."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def serving(folder: Path, port: int = 0) -> Iterator[int]:
    """Run a server without persistence on this port, or on a free one; yields the port."""
    redis = pytest.importorskip("redis", reason="the Redis client is not installed: `make setup`")
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed: `make redis` installs it with apt")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        port = probe.getsockname()[1]
    command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert any("Ready to accept connections" in line for line in process.stdout), (
                "redis-server exited"
            )
            with redis.Redis(port=port) as client:
                assert client.ping()
            yield port
        finally:
            process.terminate()


def forget_everything(port: int) -> None:
    """Delete all keys."""
    import redis

    with redis.Redis(port=port) as client:
        client.flushall()
