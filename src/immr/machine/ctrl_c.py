"""Ctrl-C: a process ends with a sentence and an exit code, whatever a library makes of the signal."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 130


@contextmanager
def ends_on_ctrl_c(
    sentence: str = "stopped: run the same command again to continue",
    exit_code: int = INTERRUPTED,
    is_server: bool = False,
) -> Iterator[None]:
    """On Ctrl-C, leave the block with KeyboardInterrupt, then print the sentence on stderr and exit.

    Some libraries turn the KeyboardInterrupt into an error of their own; DuckDB's is a RuntimeError.

    Args:
        sentence: What to print.
        exit_code: The process's exit code.
        is_server: SIGTERM ends it in the same way, and so does SIGINT if a shell started it in the background, with
            SIGINT ignored.
    """
    stopped = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopped
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
        for each, handler in before.items():
            signal.signal(each, handler)
