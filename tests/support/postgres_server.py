"""A real PostgreSQL server, if its binaries are installed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.support import patience
from tests.support.upstream_process import free_port

_DEBIAN = Path("/usr/lib/postgresql")


@dataclass
class PostgresServer:
    """A server on 127.0.0.1 with the database `immr` of the user `immr`, who needs no password."""

    programs: Path
    folder: Path
    port: int
    user: str | None
    fsync: bool
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql://immr@127.0.0.1:{self.port}/immr"

    def start(self) -> None:
        """Start the server and wait until it accepts connections."""
        patience.until(self._is_ready, context=lambda: self._log.read_text()[-2000:])

    def kill(self) -> None:
        """End the server at once, as a crash does, with the processes of its connections."""
        assert self.process is not None
        connections = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        self.process.wait(60)
        _, alive = psutil.wait_procs(connections, timeout=60)
        assert not alive, alive

    def stop(self) -> None:
        """Shut down without waiting for clients."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(60)

    @property
    def _log(self) -> Path:
        return self.folder.parent / "log"

    def _is_ready(self) -> bool:
        # after a crash a new server ends at once until the children of the old one have noticed
        if self.process is None or self.process.poll() is not None:
            options = ["-h", "127.0.0.1", "-p", str(self.port), "-c", "unix_socket_directories="]
            command = [self.programs / "postgres", "-D", self.folder, *options]
            command += ["-c", f"fsync={'on' if self.fsync else 'off'}"]
            with self._log.open("ab") as log:
                self.process = subprocess.Popen(command, user=self.user, stdout=log, stderr=log)
        command = [self.programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(command, check=False).returncode == 0


@contextmanager
def serving(fsync: bool = False) -> Iterator[PostgresServer]:
    """Run a server on a free port. Without `fsync`, what it committed survives its crash, not the machine's."""
    pytest.importorskip("psycopg", reason="the PostgreSQL client is not installed: `make setup`")
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed: `make postgres` installs it with apt")
    user = "nobody" if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root
    with tempfile.TemporaryDirectory(prefix="immr-postgres-") as name:
        folder = Path(name)
        if user:
            shutil.chown(folder, user)
        server = PostgresServer(programs, folder / "data", free_port(), user, fsync)
        command = [programs / "initdb", "-D", server.folder, "-U", "immr", "-A", "trust", "-E", "UTF8"]
        command += ["--no-sync", "--locale=C.UTF-8"]
        done = subprocess.run(command, user=user, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        server.start()
        try:
            where = ["-h", "127.0.0.1", "-p", str(server.port), "-U", "immr"]
            subprocess.run([programs / "createdb", *where, "immr"], check=True)
            yield server
        finally:
            server.stop()


def _programs() -> Path | None:
    """The folder with the server's programs; Debian does not put it on the PATH."""
    if found := shutil.which("postgres"):
        return Path(found).resolve().parent
    versions = sorted(_DEBIAN.glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    return versions[-1].parent if versions else None
