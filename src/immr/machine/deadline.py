"""Connections that stop at a deadline, however slowly the other side sends.

A timeout of httpcore bounds each read, so a server that sends one byte at a time could hold a request for days.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterable
from typing import Any

import httpcore


class DeadlineNetwork(httpcore.NetworkBackend):
    """Each thread has one request at a time, whose deadline `start` sets; timeouts of httpcore are ignored."""

    def __init__(self) -> None:
        self._backend = httpcore.SyncBackend()
        self._request = threading.local()

    def start(self, timeout_s: float) -> None:
        """Set the deadline of everything that this thread sends and reads from now on."""
        self._request.deadline = time.monotonic() + timeout_s

    def left_s(self) -> float:
        """The time that this thread's request has left.

        Raises:
            httpcore.TimeoutException: none.
        """
        left_s: float = self._request.deadline - time.monotonic()
        if left_s <= 0:
            raise httpcore.TimeoutException("the deadline has passed")
        return left_s

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """A connection."""
        stream = self._backend.connect_tcp(host, port, self.left_s(), local_address, socket_options)
        return _DeadlineStream(stream, self)


class _DeadlineStream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, network: DeadlineNetwork) -> None:
        self._stream, self._network = stream, network

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._network.left_s())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._network.left_s())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        encrypted = self._stream.start_tls(ssl_context, server_hostname, self._network.left_s())
        return _DeadlineStream(encrypted, self._network)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
