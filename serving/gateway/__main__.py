"""The A/B gateway as a process: `python -m serving.gateway`."""

from __future__ import annotations

from typing import Annotated

import typer

from immr.cli.help import run_module
from immr.cli.options import Host, Port
from serving.gateway.app import serve_gateway
from serving.gateway.split import MAX_IN_PROGRESS, TIMEOUT_S


def gateway(
    host: Host = "127.0.0.1",
    port: Port = 8080,
    timeout_s: Annotated[
        float, typer.Option(metavar="SECONDS", help="How long a variant may take.")
    ] = TIMEOUT_S,
    max_in_progress: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="COUNT",
            help=f"Concurrent searches; more get 429. By default IMMR_MAX_IN_PROGRESS, else {MAX_IN_PROGRESS}.",
        ),
    ] = None,
) -> None:
    """Route each search to its user's variant, and record what was shown and clicked, until Ctrl-C.

    Example: python -m serving.gateway --host 0.0.0.0 --port 8080
    """
    serve_gateway(host, port, timeout_s, max_in_progress)


if __name__ == "__main__":
    run_module(gateway)
