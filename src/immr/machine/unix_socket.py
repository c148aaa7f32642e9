"""Requests between processes of one user on one machine: a message there and one back, through a Unix socket."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Event, Thread

_STOP_TIMEOUT_S = 10.0
_STEP_TIMEOUT_S = 60.0

log = logging.getLogger(__name__)


def ask(path: Path, body: bytes, timeout_s: float) -> bytes:
    """Send a request and wait for its answer.

    Returns:
        The answer; empty if nobody listens, the other process ends, or the answer takes longer than `timeout_s`.
    """
    with closing(socket.socket(socket.AF_UNIX)) as caller:
        try:
            caller.connect(str(path))
            with Connection(caller.detach()) as connection:
                connection.send_bytes(body)
                return connection.recv_bytes() if connection.poll(timeout_s) else b""
        except (EOFError, OSError):
            return b""


@contextmanager
def answering(
    path: Path,
    answer: Callable[[bytes], bytes],
    send_within_s: float = 10.0,
    prepare: Callable[[], Iterable[None]] = tuple,
) -> Iterator[None]:
    """Answer requests in a thread during the block, one after the other; only this user can send any.

    If no socket can be made, for example because its path is too long, this is logged and the block still runs: to
    callers of `ask` it is as if nobody listened. When the block ends, a request in progress has ten seconds left.

    Args:
        path: The socket; one that another process left there is replaced.
        answer: From a request to its answer. If it raises, the answer is empty, and the error is logged.
        send_within_s: A caller that has not sent its request by then is dropped, so that others need not wait for it.
        prepare: Its steps are taken in the thread before the first request is read; none after the block ends. If one
            raises, the error is logged.
    """
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        try:
            os.fchmod(listener.fileno(), 0o600)  # of the file that `bind` creates
            path.unlink(missing_ok=True)
            listener.bind(str(path))
            listener.listen()
        except OSError as error:
            log.warning("no requests through %s: %s", path, error)
            yield
            return
        preparation = _Preparation(prepare)
        thread = Thread(
            target=_answer_all,
            args=(listener, answer, send_within_s, preparation),
            name=path.name,
            daemon=True,
        )
        thread.start()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            preparation.stop()
            listener.shutdown(socket.SHUT_RDWR)  # ends `accept`
            thread.join(_STOP_TIMEOUT_S)


class _Preparation:
    """Steps in one thread that another thread can stop."""

    def __init__(self, steps: Callable[[], Iterable[None]]) -> None:
        self._steps = steps
        self._stopping, self._done = Event(), Event()

    def run(self) -> None:
        try:
            for _ in self._steps():
                if self._stopping.is_set():
                    break
        except Exception:  # requests are still answered
            log.exception("preparing for requests through the socket failed")
        finally:
            self._done.set()

    def stop(self) -> None:
        """Wait for the current step: an import that is cut off when the interpreter ends may crash it."""
        self._stopping.set()
        self._done.wait(_STEP_TIMEOUT_S)


def _answer_all(
    listener: socket.socket,
    answer: Callable[[bytes], bytes],
    send_within_s: float,
    preparation: _Preparation,
) -> None:
    preparation.run()
    while True:
        try:
            accepted, _ = listener.accept()
        except OSError:
            return
        with Connection(accepted.detach()) as connection, suppress(EOFError, OSError):  # the caller has gone
            if connection.poll(send_within_s):
                body = connection.recv_bytes()
                if not connection.poll():  # readable again: the caller left while others were answered
                    connection.send_bytes(_answered(body, answer))


def _answered(body: bytes, answer: Callable[[bytes], bytes]) -> bytes:
    try:
        return answer(body)
    except Exception:  # a request must not end the service
        log.exception("a request through the socket failed")
        return b""
