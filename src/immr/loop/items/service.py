"""Changes to the catalogue in the process of `immr serve`.

A command that embeds one item spends seconds on loading MLflow, pandas and torch. A running `immr serve` loads them
when it starts and keeps them, so the command asks it through a Unix socket in IMMR_HOME. If none runs there, or it
has other settings, or the file is large, the command does the work itself.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from immr import __version__, errors
from immr.errors import ImmrError
from immr.loop.items.request import ItemsProgress, ItemsRequest, ItemsResult
from immr.machine import unix_socket
from immr.storage import fingerprint

if TYPE_CHECKING:
    from immr.settings import Settings
    from immr.wiring import Parts

log = logging.getLogger(__name__)

LARGEST_FILE_BYTES = 1_000_000
"""Larger files of items are embedded by the command, so that `immr serve` stays small."""
ANSWER_TIMEOUT_S = 600.0
"""If `immr serve` hangs or is this far behind, the command does the work. The service skips the request, unless it
has begun with it; then both do it, which gives the same catalogue."""
_SOCKET = "serve.sock"


def perform(parts: Parts, request: ItemsRequest) -> ItemsResult:
    """Do what a command asks for, in this process.

    Raises:
        ContractError: The file of changed items holds no valid item.
    """
    from immr.loop import catalogue
    from immr.loop.items import delivery

    if request.verb == "upsert":
        map_file = Path(request.map_file) if request.map_file else None
        counts, progress = catalogue.upsert(parts, request.source, map_file)
        return ItemsResult(tuple(progress), counts.rows_in, counts.rejected, counts.examples)
    if request.verb == "delete":
        unknown = tuple(catalogue.unknown(parts, request.item_ids))
        return ItemsResult(tuple(catalogue.change(parts, [], request.item_ids)), unknown=unknown)
    return ItemsResult(
        tuple(delivery.deliver(parts) if request.verb == "deliver" else delivery.status(parts))
    )


def ask(settings: Settings, request: ItemsRequest) -> ItemsResult | None:
    """Ask the `immr serve` of this home; None if the command has to do it.

    Raises:
        ImmrError: What `perform` raised there.
    """
    if request.verb == "upsert":
        source = Path(request.source)
        if not source.is_file() or source.stat().st_size > LARGEST_FILE_BYTES:
            return None
        map_file = str(Path(request.map_file).absolute()) if request.map_file else ""
        request = replace(request, source=str(source.absolute()), map_file=map_file)
    body = {"caller": _caller(settings), "request": asdict(request)}
    answer = unix_socket.ask(settings.home / _SOCKET, json.dumps(body).encode(), ANSWER_TIMEOUT_S)
    return _read(json.loads(answer)) if answer else None


@contextmanager
def serving(parts: Parts) -> Iterator[None]:
    """Answer commands during the block, one after the other; the first one need not wait for libraries."""
    socket = parts.settings.home / _SOCKET
    with unix_socket.answering(socket, lambda body: _answered(parts, body), prepare=lambda: _prepare(parts)):
        yield


def _prepare(parts: Parts) -> Iterator[None]:
    from immr.loop.items import delivery

    try:
        yield from delivery.load_what_changes_need(parts)
    except ImmrError as error:  # a command meets it again, and reports it
        log.info("not everything that changes need could be loaded yet: %s", error)


def _answered(parts: Parts, body: bytes) -> bytes:
    """The answer; empty to leave the work to the command."""
    asked = json.loads(body)
    if asked["caller"] != _caller(parts.settings):
        return b""
    request = ItemsRequest(**asked["request"] | {"item_ids": tuple(asked["request"]["item_ids"])})
    try:
        return json.dumps(asdict(perform(parts, request))).encode()
    except ImmrError as error:
        return json.dumps({"error": type(error).__name__, "message": str(error)}).encode()


def _read(answer: dict[str, Any]) -> ItemsResult:
    if "error" in answer:
        raise getattr(errors, answer["error"], ImmrError)(answer["message"])
    progress = tuple(ItemsProgress(**each) for each in answer.pop("progress"))
    return ItemsResult(progress, unknown=tuple(answer.pop("unknown")), **answer)


def _caller(settings: Settings) -> str:
    """Equal for processes of one release with the same settings, which may contain secrets."""
    return fingerprint.of_values(__version__, settings.environment())
