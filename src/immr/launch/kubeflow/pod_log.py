"""The log of a job's leading pod, streamed to our stderr line by line."""

from __future__ import annotations

import sys
import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kubernetes.client import CoreV1Api

_KEPT_LINES = 200
_READ_TIMEOUT_S = 60.0


class PodLog:
    """Follows one container in a thread; `ensure` resumes a stream that was cut."""

    def __init__(self, core: CoreV1Api, namespace: str, container: str) -> None:
        self._core = core
        self._namespace = namespace
        self._container = container
        self._thread: threading.Thread | None = None
        self._newest = ""  # the API's timestamp of the last line, so that no line is shown twice
        self.lines: deque[str] = deque(maxlen=_KEPT_LINES)

    def ensure(self, pod: str) -> None:
        """Follow this pod unless a thread already does."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._follow, args=(pod,), daemon=True)
            self._thread.start()

    def finish(self, timeout_s: float) -> None:
        """Wait for the last lines to arrive."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _follow(self, pod: str) -> None:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            answer = self._core.read_namespaced_pod_log(
                pod,
                self._namespace,
                container=self._container,
                follow=True,
                timestamps=True,
                _preload_content=False,
                _request_timeout=(5, _READ_TIMEOUT_S),
            )
            rest = b""
            for part in answer.stream(65536):
                *whole, rest = (rest + part).split(b"\n")
                for line in whole:
                    self._show(line.decode(errors="replace"))
            if rest:
                self._show(rest.decode(errors="replace"))
        except (ApiException, HTTPError, OSError):
            return  # the pod does not exist (yet, or any more), or the stream was cut: `ensure` tries again

    def _show(self, line: str) -> None:
        stamp, _, text = line.partition(" ")
        if stamp <= self._newest:
            return
        self._newest = stamp
        self.lines.append(text)
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
