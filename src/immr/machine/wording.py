"""Numbers and lists in sentences."""

from __future__ import annotations

from collections.abc import Sequence


def counted(number: int, noun: str) -> str:
    """A number with its noun, which is given in the singular: `1 query`, `2,000 queries`."""
    return f"{number:,} {noun if number == 1 else _plural(noun)}"


def by_number(number: int, one: str, several: str) -> str:
    """The word that fits a number: `by_number(rows, "is", "are")`."""
    return one if number == 1 else several


def listed(words: Sequence[str]) -> str:
    """`a`, `a and b`, or `a, b and c`."""
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


def _plural(noun: str) -> str:
    if noun.endswith(("s", "x", "ch", "sh")):
        return f"{noun}es"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}s"
