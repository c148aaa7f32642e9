"""`python -m dashboards --port 8081`: serve the page on this machine."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path


def main() -> None:
    """Read the settings from IMMR_*, wire the event log and the registry, and serve until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m dashboards", description="IMMR's web page.")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: this machine only)"
    )
    parser.add_argument("--port", type=int, default=8081)
    parser.add_argument("--samples", type=Path, help="folder of photos to click on")
    options = parser.parse_args()

    import uvicorn

    from dashboards.live import Live
    from dashboards.page import create_page
    from immr import wiring
    from immr.settings import Settings

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    settings = Settings()
    events = wiring.event_log(settings)
    live = Live(settings.experiment_file, events, wiring.registry(settings).decisions)
    page = create_page(live, settings.home / "reports", options.samples)
    try:
        uvicorn.run(page, host=options.host, port=options.port, log_level="warning", access_log=False)
    finally:
        events.close()


if __name__ == "__main__":
    main()
