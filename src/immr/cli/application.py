"""The commands, with the parts that they share, and how their errors are printed.

A command's module is imported when the command is called, because `immr --help` should not wait for all of them.
"""

from __future__ import annotations

import atexit
import errno
import sqlite3
import sys
from collections import UserDict
from importlib import import_module
from typing import Annotated, Any, NoReturn

import typer

from immr import __version__
from immr.cli.help import EARLIER_COMMANDS, Command, Commands, Group
from immr.errors import ImmrError

_PANELS = {
    "From your data to a deployed version": {
        "data": ("data:data_app", "Check your own tables, or write a sample shop."),
        "govern": ("loop:app", "Clean, group and split a click log into a training set."),
        "train": ("loop:app", "Train a model with a recipe, and register it as a version."),
        "evaluate": ("loop:app", "Evaluate a version on held-out photos, and apply the gate."),
        "rank": (
            "ranking:app",
            "Learn a ranker from clicks, and register it if it beats the hand-tuned weights.",
        ),
        "package": ("loop:app", "Build a version's Bento, and print its tag."),
        "index": ("index:index_app", "Build and verify a version's collection, or delete old ones."),
        "materialize": (
            "ranking:app",
            "Compute features of items from clicks, and write them to the online store.",
        ),
        "deploy": (
            "loop:app",
            "Deploy a packaged and indexed version as challenger, or as the first champion.",
        ),
    },
    "Search, catalogue and features": {
        "start": (
            "serve:app",
            "Turn a catalogue without clicks into a running search, with a pretrained version.",
        ),
        "serve": (
            "serve:app",
            "Run the deployed versions, the gateway and the page on this machine, until Ctrl-C.",
        ),
        "items": ("items:items_app", "Change the catalogue: add, replace and delete items."),
        "features": ("ranking:features_app", "Delete a user's features, and never compute any again."),
    },
    "A/B tests and monitoring": {
        "experiment": (
            "experiment.commands:experiment_app",
            "Plan, start, ramp, read out, decide and stop A/B tests.",
        ),
        "watch": (
            "experiment.commands:app",
            "Decide whether to promote, keep, wait or roll back: `immr experiment decide`.",
        ),
        "drift": (
            "events:app",
            "Compare recent photos, scores, categories and features with the training set.",
        ),
        "events": (
            "events:events_app",
            "Export the event log as a click log, or write it as Parquet by day.",
        ),
    },
    "State and settings": {
        "status": ("status:app", "Show what serves where, the running test, and what waits."),
        "models": ("status:app", "List all registered versions, with their roles and the gate's verdict."),
        "doctor": (
            "status:app",
            "Check what is installed, what answers and what is missing, and suggest remedies.",
        ),
        "recipe": ("recipe:recipe_app", "List recipes, or print one as TOML."),
        "keys": ("keys:keys_app", "Rotate the keys that sign click tokens and cookies."),
    },
}
COMMANDS = {name: place for panel in _PANELS.values() for name, place in panel.items()}
"""Where each command is in this package, and its line in `immr --help`."""


class _Commands(UserDict[str, Any]):
    """`COMMANDS` by name, each imported when it is looked up."""

    def __getitem__(self, name: str) -> Any:
        module, app = COMMANDS[name][0].split(":")
        loaded = typer.main.get_group(getattr(import_module(f"immr.cli.{module}"), app))
        if app != "app":
            loaded.name = name
            return loaded
        return loaded.commands[name]


class _Root(Group):
    """The root command; its help imports no other command."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Commands(COMMANDS)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """See `click.Group.resolve_command`; a command also has its earlier name."""
        return super().resolve_command(ctx, [*EARLIER_COMMANDS.get(args[0], args[:1]), *args[1:]])

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """List the commands by `_PANELS`."""
        lines = [
            Command(name, help=line, rich_help_panel=panel)
            for panel, commands in _PANELS.items()
            for name, (_, line) in commands.items()
        ]
        listed = Group(
            name=self.name,
            help=self.help,
            params=self.params,
            commands=lines,
            rich_markup_mode=self.rich_markup_mode,
        )
        listed.format_help(ctx, formatter)


app = Commands(
    cls=_Root,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Turn a shop's catalogue and click log into a visual search service: train, deploy and A/B-test it.\n\n"
    "Begin with `immr start items.parquet` (a catalogue) or `immr data check my-shop` (a click log).",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"immr {__version__}")
        raise typer.Exit


@app.callback()
def root(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print IMMR's version.")
    ] = False,
) -> None:
    """Connect once; the command gets these parts, and they are closed when it ends."""
    from immr.machine.library_log import libraries_log_to
    from immr.settings import Settings
    from immr.wiring import connect

    settings = Settings()
    ctx.with_resource(libraries_log_to(settings.home / "logs" / "libraries.log"))
    ctx.obj = ctx.with_resource(connect(settings))


def run() -> None:
    """Run the command. IMMR's errors, and files that cannot be read or written, print one sentence; exit code 1."""
    from immr.machine.ctrl_c import ends_on_ctrl_c
    from immr.machine.library_log import show_own_messages, silence_the_end

    show_own_messages()
    atexit.register(silence_the_end)
    try:
        with ends_on_ctrl_c():  # within: what a stopped step raises is not worth an error message
            app()
    except ImmrError as error:
        _fail(error, str(error))
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            raise
        _fail(error, f"a database below IMMR_HOME: {error}: free some space, then run it again")
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):  # often without the file's name
            _fail(
                error,
                f"{error.filename or 'the disk of IMMR_HOME'}: {error.strerror}: free some space, then run it again",
            )
        if error.filename is None:
            raise
        _fail(
            error, f"{error.filename}: {error.strerror}: check the path, its permissions and the free space"
        )


def _fail(error: Exception, sentence: str) -> NoReturn:
    from rich.console import Console
    from rich.markup import escape

    Console(stderr=True, soft_wrap=True, emoji=False).print(
        f"[red]{type(error).__name__}[/]: {escape(sentence)}", highlight=False
    )
    sys.exit(1)
