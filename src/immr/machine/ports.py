"""TCP ports on the command line."""

from __future__ import annotations

from argparse import ArgumentTypeError

LAST_PORT = 65_535


def port_number(text: str) -> int:
    """The port that an option of `argparse` names.

    Raises:
        ArgumentTypeError: The text is not a whole number from 1 to 65535.
    """
    if text.isascii() and text.isdecimal() and 1 <= int(text) <= LAST_PORT:
        return int(text)
    raise ArgumentTypeError(f"{text!r} is not a port: give a number from 1 to {LAST_PORT}")
