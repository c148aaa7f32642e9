"""Values of options: shares of users, lengths of time, points in time, lists of names."""

from __future__ import annotations

import math
from datetime import datetime

import typer

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def a_share(value: str | float) -> float:
    """A share such as `10%`, 0.1 or 10; also an option's default, which is a number already.

    Raises:
        BadParameter: The text is not a share, or it is 1, which may be 1% or 100%.
    """
    text = str(value).strip()
    number = _number(text)
    if text.endswith("%") or number > 1:
        return number / 100
    if number == 1:
        raise typer.BadParameter("1 may be 1% or 100%: add the %")
    return number


def shares(text: str, option: str) -> list[float]:
    """The shares in a comma-separated option, such as `1%,5%,25%`; in `1,5,25`, 1 is a percentage like the others.

    Raises:
        BadParameter: One of them is not a share.
    """
    parts = [part.strip() for part in text.split(",")]
    try:
        percentages = any(_number(part) > 1 and not part.endswith("%") for part in parts)
        return [a_share("1%" if percentages and part == "1" else part) for part in parts]
    except typer.BadParameter as error:
        raise typer.BadParameter(error.message, param_hint=option) from error


def _number(text: str) -> float:
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise typer.BadParameter(f"{text!r} is not a share such as 10% or 0.1")
    return number


def a_duration(value: str | float) -> int:
    """The seconds of 30s, 5m, 6h or 1d; also an option's default, which is a number of seconds already.

    Raises:
        BadParameter: The text is not a length of time.
    """
    if not isinstance(value, str):
        return int(value)
    if value[:-1].isdecimal() and value[-1] in _SECONDS and int(value[:-1]) > 0:
        return int(value[:-1]) * _SECONDS[value[-1]]
    raise typer.BadParameter(f"{value!r} is not a length of time such as 30s, 5m, 6h or 1d")


def in_words(length_s: int) -> str:
    """A length of time in its largest whole unit, as `a_duration` reads it: 30m, 6h or 1d."""
    return next(f"{length_s // s}{unit}" for unit, s in reversed(_SECONDS.items()) if length_s % s == 0)


def a_time(text: str) -> datetime:
    """A day or a time such as 2026-05-01 or 2026-05-01T12:00, as `datetime` reads it."""
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} is not a day or time such as 2026-05-01 or 2026-05-01T12:00"
        ) from error


def names_in(text: str) -> list[str]:
    """The names in a comma-separated option."""
    return [name for name in (part.strip() for part in text.split(",")) if name]
