"""Connections to public addresses only."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from typing import Any

import httpcore

_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052


class ForbiddenAddressError(Exception):
    """A name or address that is not public."""


class PublicNetwork(httpcore.NetworkBackend):
    """Resolves a name, refuses addresses that are not public, and connects to the very address it has checked."""

    def __init__(self, backend: httpcore.NetworkBackend) -> None:
        """`backend` makes the connections."""
        self._backend = backend

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """A connection to a public address of the host.

        Raises:
            ForbiddenAddressError: An address of the host is private, link-local, this machine's or reserved.
            httpcore.ConnectError: it has no address, or none answers.
        """
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in public_addresses(host, port):
            try:
                return self._backend.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure


def public_addresses(host: str, port: int) -> list[str]:
    """The addresses of a host.

    Raises:
        ForbiddenAddressError: An address of the host is not public.
        httpcore.ConnectError: there is no such host.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpcore.ConnectError(f"{host}: {error}") from error
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    for address in addresses:
        if not _is_public(address):
            raise ForbiddenAddressError(
                f"{host} is at {address}, which is not a public address: if it may be read, set allow_private = true "
                "under [pictures] of the mapping"
            )
    return addresses


def _is_public(address: str) -> bool:
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        nat64 = ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF) if parsed in _NAT64 else None
        embedded = parsed.ipv4_mapped or parsed.sixtofour or nat64
        if embedded is None:
            return parsed.is_global and parsed in _GLOBAL_UNICAST
        parsed = embedded
    return parsed.is_global and not parsed.is_multicast
