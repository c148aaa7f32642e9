import os
import signal
import threading

import pytest

from immr.launch.interruption import sigterm_raises


def test_sigterm_becomes_an_exception_and_the_handler_is_restored() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended, sigterm_raises():
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(10)  # the handler runs between two bytecodes
    assert ended.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


def test_another_thread_leaves_the_handler_alone() -> None:
    seen = []

    def run() -> None:
        with sigterm_raises():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]
