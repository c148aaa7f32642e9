"""`immr <verb>`: the loop from the command line. Settings come from IMMR_*; see `immr doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from immr.cli.application import app as app


def main() -> None:
    """Entry point. Ctrl-C ends it without a traceback, also while the commands are still being imported."""
    from immr.machine.ctrl_c import ends_on_ctrl_c

    with ends_on_ctrl_c():
        from immr.cli.application import run
    run()


def __getattr__(name: str) -> Any:
    """`app`, imported when it is first used."""
    if name != "app":
        raise AttributeError(name)
    from immr.cli.application import app

    return app
