"""Ctrl-C: a process ends with a sentence and an exit code, whatever a library makes of the signal."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 130
_PATIENCE_S = 30.0  # more than it takes to stop child processes


@contextmanager
def ends_on_ctrl_c(
    sentence: str = "stopped: run the same command again to continue",
    exit_code: int = INTERRUPTED,
    is_server: bool = False,
) -> Iterator[None]:
    """On Ctrl-C, leave the block with KeyboardInterrupt, then print the sentence on stderr and exit.

    Some libraries turn the KeyboardInterrupt into an error of their own; DuckDB's is a RuntimeError. Some never
    return: DuckDB 2.0 sometimes waits for ever for tasks that have ended. A process that has not left the block half
    a minute later therefore exits, unless it is a server.

    Args:
        sentence: What to print.
        exit_code: The process's exit code.
        is_server: SIGTERM ends it in the same way, and so does SIGINT if a shell started it in the background, with
            SIGINT ignored.
    """
    stopped = False
    left = threading.Event()

    def exit_unless_left() -> None:
        if not left.wait(_PATIENCE_S):
            print(sentence, file=sys.stderr, flush=True)
            os._exit(exit_code)

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopped
        if not (stopped or is_server):
            threading.Thread(target=exit_unless_left, daemon=True).start()
        stopped = True
        raise KeyboardInterrupt

    signals = [signal.SIGINT, signal.SIGTERM] if is_server else [signal.SIGINT]
    before = {each: signal.getsignal(each) for each in signals}
    if not is_server and before[signal.SIGINT] is signal.SIG_IGN:
        before = {}
    for each in before:
        signal.signal(each, stop)
    try:
        yield
    except BaseException:
        if not stopped:
            raise
        print(sentence, file=sys.stderr)
        sys.exit(exit_code)
    finally:
        left.set()
        for each, handler in before.items():
            signal.signal(each, handler)
