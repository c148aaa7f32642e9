"""The page: `python -m dashboards --port 8081`; Grafana's board: `python -m dashboards grafana --out DIR`."""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path

from immr.machine.ports import port_number


def main() -> None:
    """Serve the page, or write Grafana's board and Prometheus' rules."""
    parser = argparse.ArgumentParser(prog="python -m dashboards", description=__doc__)
    parser.add_argument("command", nargs="?", choices=("serve", "grafana"), default="serve")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: this machine only)"
    )
    parser.add_argument("--port", type=port_number, default=8081)
    parser.add_argument("--samples", type=Path, help="folder of photos to click on")
    parser.add_argument("--out", type=Path, default=Path("dashboards"), help="where the boards go")
    options = parser.parse_args()
    if options.command == "grafana":
        from dashboards.boards import write

        for path in write(options.out):
            print(path)
    else:
        _serve(options)


def _serve(options: argparse.Namespace) -> None:
    """Connect, and serve the page until Ctrl-C."""
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
        page = create_page(settings, live, lineage, options.samples)
        uvicorn.run(
            page,
            host=options.host,
            port=options.port,
            log_level="warning",
            log_config=None,  # uvicorn's own would write its lines as text
            access_log=False,
        )


if __name__ == "__main__":
    main()
