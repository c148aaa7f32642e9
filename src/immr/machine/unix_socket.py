"""Requests between processes of one user on one machine: bytes there and back, through a Unix socket."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Thread

_BLOCK = 65_536
_STOP_TIMEOUT_S = 10.0

log = logging.getLogger(__name__)


def ask(path: Path, body: bytes) -> bytes:
    """Send a request and wait for its answer; empty if nobody listens, or the process ended meanwhile."""
    with closing(socket.socket(socket.AF_UNIX)) as connection:
        try:
            connection.connect(str(path))
            connection.sendall(body)
            connection.shutdown(socket.SHUT_WR)
            return _received(connection)
        except OSError:
            return b""


@contextmanager
def answering(path: Path, answer: Callable[[bytes], bytes]) -> Iterator[None]:
    """Answer requests in a thread during the block, one after the other; only this user can send any.

    Without a socket, for example because the path is too long for one, the block runs all the same: callers of `ask`
    have to do without an answer anyway. When the block ends, a request in progress has ten seconds left.

    Args:
        path: The socket; one that another process left there is replaced.
        answer: From a request to its answer. If it raises, the answer is empty, and the error is logged.
    """
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        os.fchmod(listener.fileno(), 0o600)  # of the file that `bind` creates
        try:
            path.unlink(missing_ok=True)
            listener.bind(str(path))
            listener.listen()
        except OSError as error:
            log.warning("no requests through %s: %s", path, error)
            yield
            return
        thread = Thread(target=_answer_all, args=(listener, answer), name=path.name, daemon=True)
        thread.start()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            listener.shutdown(socket.SHUT_RDWR)  # ends `accept`
            thread.join(_STOP_TIMEOUT_S)


def _answer_all(listener: socket.socket, answer: Callable[[bytes], bytes]) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with closing(connection):
            try:
                connection.sendall(answer(_received(connection)))
            except Exception:  # a request must not end the service
                log.exception("a request through the socket failed")


def _received(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(_BLOCK), b""))
