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
_WITHOUT = ("-s3.port.iceberg=0", "-s3.port.lance=0")


@contextmanager
def serving(folder: Path) -> Iterator[dict[str, str]]:
    """Run a server with one bucket; yields the environment that clients need."""
    program = Path(sys.executable).parent / "weed"
    if not program.exists():
        pytest.skip("SeaweedFS is not installed: `make setup`")
    folder.mkdir(parents=True)
    s3 = free_port()
    ports = {name: free_port() for name in ("master.port", "volume.port", "filer.port")}
    # gRPC listens on port + 10000 unless it is named
    grpc = {f"{name}.grpc": free_port() for name in (*ports, "s3.port")}
    options = [f"-{name}={port}" for name, port in {**ports, **grpc, "s3.port": s3}.items()]
    command = [
        program,
        "-logtostderr=false",
        "server",
        f"-dir={folder}",
        "-ip=127.0.0.1",
        "-s3",
        *options,
        *_WITHOUT,
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            environment = {
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{s3}",
                "AWS_ACCESS_KEY_ID": "key",
                "AWS_SECRET_ACCESS_KEY": "secret",
                "AWS_REGION": "us-east-1",
                "AWS_EC2_METADATA_DISABLED": "true",
                "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",  # SeaweedFS wants a key for checksums
            }
            client = fs.S3FileSystem(
                access_key="key",
                secret_key="secret",
                endpoint_override=f"127.0.0.1:{s3}",
                scheme="http",
                region="us-east-1",
                allow_bucket_creation=True,
            )

            def answers() -> bool:
                assert process.poll() is None, "SeaweedFS exited"
                try:
                    client.create_dir(BUCKET)
                except OSError:
                    return False
                return True

            until(answers)
            yield environment
        finally:
            process.kill()  # a graceful end takes 25 s, and nobody needs its files
            for port in (s3, *ports.values(), *grpc.values()):
                for socket in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                    socket.unlink()
