"""The keys that sign click tokens and visitors' cookies."""

from __future__ import annotations

from typing import Annotated

import typer

from immr.cli.help import Commands
from immr.cli.options import AsJson, parts_of, report

keys_app = Commands(
    no_args_is_help=True,
    help="Rotate the keys that sign click tokens and cookies.\n\nExample: immr keys rotate",
)


@keys_app.callback()
def keys() -> None:
    """Make typer treat `rotate` as a subcommand although it is the only one."""


@keys_app.command("rotate")
def keys_rotate(
    ctx: typer.Context,
    keep: Annotated[
        int, typer.Option(min=1, metavar="COUNT", help="How many keys to keep, including the new one.")
    ] = 2,
    as_json: AsJson = False,
) -> None:
    """Sign with a new key from now on, without a restart; tokens signed with the kept keys stay valid.

    Example: immr keys rotate --keep 2
    """
    from immr.events import token_keys

    key_file = parts_of(ctx).settings.token_key_file
    assert key_file is not None, "settings fill it in"
    count = token_keys.rotate(key_file, keep)
    report(f"{key_file} now has {count} keys; the newest signs", {"file": key_file, "keys": count}, as_json)
