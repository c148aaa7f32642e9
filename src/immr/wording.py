"""Numbers in sentences: `1 item is missing`, `2,000 items are missing`."""

from __future__ import annotations

_WITH_ES = ("s", "x", "ch", "sh")
_VOWELS = "aeiou"


def counted(number: int, noun: str) -> str:
    """A number with its noun, which is given in the singular: `1 query`, `2,000 queries`."""
    return f"{number:,} {noun if number == 1 else _plural(noun)}"


def by_number(number: int, one: str, several: str) -> str:
    """The word that fits a number: `by_number(rows, "is", "are")`."""
    return one if number == 1 else several


def _plural(noun: str) -> str:
    if noun.endswith(_WITH_ES):
        return f"{noun}es"
    if noun.endswith("y") and noun[-2:-1] not in _VOWELS:
        return f"{noun[:-1]}ies"
    return f"{noun}s"
