"""The keys that sign click tokens and visitors' cookies."""

from __future__ import annotations

from typing import Annotated

import typer

from immr.cli.options import console
from immr.settings import Settings

keys_app = typer.Typer(no_args_is_help=True, help="The keys that sign click tokens: rotate.")


@keys_app.callback()
def keys() -> None:
    """Keeps `rotate` a command of its own, as long as there is only one."""


@keys_app.command("rotate")
def keys_rotate(
    keep: Annotated[int, typer.Option(min=1, help="How many keys stay, the new one included.")] = 2,
) -> None:
    """Sign with a new key from now on, without a restart; what the older ones signed stays valid."""
    from immr.events import token_keys

    settings = Settings()
    assert settings.token_key_file is not None
    count = token_keys.rotate(settings.token_key_file, keep)
    console.print(f"{settings.token_key_file} has {count} keys now, the newest signs", highlight=False)
