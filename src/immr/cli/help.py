"""How `--help` looks: values as `FILE` or `NUMBER`, flags without a type, the example at the end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from typing import Any, TypeVar

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup

from immr.errors import ImmrError

Function = TypeVar("Function", bound=Callable[..., Any])
_EXAMPLE = "Example: "
_EARLIER_NAMES = {
    "--weight": "--share",
    "--items": "",
    "--workers": "--processes",
    "--gpus-per-worker": "--gpus-per-process",
}
"""Options that scripts may still use, and what they are called now; nothing for what is an argument now."""
EARLIER_COMMANDS = {
    "push": ("materialize", "--events"),
    "forget": ("features", "delete"),
}
"""Commands of `immr` that scripts may still use, and how they are written now."""


class _PlainHelp:
    """For a command or a group: words for people, where typer prints `<bool>`, `<path>`, `{data}` and `[x>=1]`."""

    def __init__(self, *args: Any, **attributes: Any) -> None:
        """The help may end with a paragraph `Example: …`."""
        text, found, example = (attributes.get("help") or "").partition(_EXAMPLE)
        paragraphs = [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
        attributes["help"] = "\n\n".join(filter(None, paragraphs))
        if found:
            attributes["epilog"] = _EXAMPLE + example.strip()
        super().__init__(*args, **attributes)

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters; each has a word for its value, a flag has none."""
        parameters: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for parameter in parameters:
            if isinstance(parameter, TyperArgument):
                parameter.metavar = parameter.metavar or parameter.name.upper()
                parameter.display_type_rich = lambda ctx: None  # type: ignore[method-assign]
                continue
            parameter.min = parameter.max = None  # only for display: the option's type checks the range
            if parameter.is_flag:
                parameter.metavar = ""
        return parameters

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The line after `Usage:`, without braces around arguments."""
        pieces: list[str] = super().collect_usage_pieces(ctx)  # type: ignore[misc]
        return [piece.replace("{", "").replace("}", "") for piece in pieces]


class Command(_PlainHelp, TyperCommand):
    """A command with plain help, which also takes options by their earlier names."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See `click.Command.parse_args`."""
        own = {option for parameter in self.params for option in parameter.opts}
        return super().parse_args(ctx, [each for given in args for each in _by_present_name(given, own)])


class Group(_PlainHelp, TyperGroup):
    """A group of commands with plain help."""


class Commands(typer.Typer):
    """Typer whose commands and groups have plain help."""

    def __init__(self, cls: type[Group] = Group, **settings: Any) -> None:
        super().__init__(cls=cls, **settings)

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Function], Function]:
        """See `typer.Typer.command`."""
        return super().command(name, cls=Command, **settings)


def _by_present_name(given: str, own: Collection[str]) -> list[str]:
    name, equals, value = given.partition("=")
    if name in own or name not in _EARLIER_NAMES:
        return [given]
    present = _EARLIER_NAMES[name]
    return [f"{present}{equals}{value}"] if present else [value] * bool(equals)


def run_module(command: Callable[..., None]) -> None:
    """Run a module's only command, as `python -m …`; an ImmrError prints one sentence, with exit code 1."""
    app = Commands(add_completion=False, pretty_exceptions_enable=False)
    app.command()(command)
    try:
        app()
    except ImmrError as error:
        sys.exit(f"{type(error).__name__}: {error}")
