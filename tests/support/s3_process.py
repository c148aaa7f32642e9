"""A real S3 server: SeaweedFS, from PyPI."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.fs as fs
import pytest

from tests.support.patience import until
from tests.support.upstream_process import free_port

BUCKET = "shop"
_SERVERS = ("master", "volume", "filer", "s3")
_WITHOUT = ("-s3.port.iceberg=0", "-s3.port.lance=0")


_TRIES = 3  # another process may take a free port before SeaweedFS listens on it


@contextmanager
def serving(folder: Path) -> Iterator[dict[str, str]]:
    """Run a server with one bucket; yields the environment that clients need."""
    program = Path(sys.executable).parent / "weed"
    if not program.exists():
        pytest.skip("SeaweedFS is not installed: `make setup`")
    for attempt in range(_TRIES):
        data = folder / str(attempt)
        data.mkdir(parents=True)
        # gRPC listens on port + 10000 unless it is named
        ports = {f"{name}.port{grpc}": free_port() for name in _SERVERS for grpc in ("", ".grpc")}
        options = [f"-{name}={port}" for name, port in ports.items()]
        command = [program, "-logtostderr=false", "server", f"-dir={data}", "-ip=127.0.0.1", "-s3", *options]
        with subprocess.Popen(
            [*command, *_WITHOUT], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            try:
                if _made_bucket(process, ports["s3.port"]):
                    yield _environment(ports["s3.port"])
                    return
            finally:
                process.kill()  # a graceful end takes 25 s, and nobody needs its files
                for port in ports.values():
                    for socket in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                        socket.unlink()
    raise RuntimeError(f"SeaweedFS exited {_TRIES} times")


def _made_bucket(process: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until the server has a bucket; False if it exited instead."""
    client = fs.S3FileSystem(
        access_key="key",
        secret_key="secret",
        endpoint_override=f"127.0.0.1:{port}",
        scheme="http",
        region="us-east-1",
        allow_bucket_creation=True,
    )

    def answers_or_exited() -> bool:
        if process.poll() is not None:
            return True
        try:
            client.create_dir(BUCKET)
        except OSError:
            return False
        return True

    until(answers_or_exited)
    return process.poll() is None


def _environment(port: int) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",  # SeaweedFS wants a key for checksums
    }
