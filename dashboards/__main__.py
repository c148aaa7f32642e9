"""The web page as a process: `python -m dashboards`."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Annotated

import typer

from immr.cli.help import run_module
from immr.cli.options import Host, Port


def page(
    host: Host = "127.0.0.1",
    port: Port = 8081,
    samples: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Photos to offer for searching.")
    ] = None,
) -> None:
    """Serve the web page until Ctrl-C: search by photo, the running test, the versions.

    Example: python -m dashboards --port 8081
    """
    import uvicorn

    from dashboards.lineage import Lineage
    from dashboards.live_experiment import LiveExperiment
    from dashboards.page import create_page
    from immr.machine import log_lines
    from immr.settings import Settings
    from immr.wiring import connect

    log_lines.configure(log_lines.format_in(os.environ), ("immr", "dashboards"))
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns of every malformed form
    with connect(Settings()) as parts:
        settings, registry = parts.settings, parts.registry
        freshness = parts.features.freshness
        lineage = Lineage(registry, freshness, settings.drift_file, settings.work_dir / "training-sets")
        live = LiveExperiment(settings, parts.events, registry.decisions, lineage.categories)
        app = create_page(settings, live, lineage, samples)
        uvicorn.run(
            app,
            host=host,
            port=port,
            log_level="warning",
            log_config=None,  # uvicorn's own would write its lines as text
            access_log=False,
        )


if __name__ == "__main__":
    run_module(page)
