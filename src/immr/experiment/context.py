"""The context of a search: a few declared dimensions, such as the country, that a readout can be split by.

Dimensions are declared, values are short codes, and both are bounded: a context holds neither free text nor
personal data.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from immr.errors import ExperimentError, SettingsError

MAX_DIMENSIONS = 8
RESERVED = ("category", "day", "rank")
"""Dimensions that the readout knows by itself."""
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_VALUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")


@dataclass(frozen=True)
class Dimensions:
    """Declared dimensions by name, each with its allowed values; None allows every code."""

    allowed: Mapping[str, frozenset[str] | None]

    @classmethod
    def parse(cls, text: str) -> Dimensions:
        """Read a declaration such as `country,device=phone|tablet|desktop`.

        Raises:
            SettingsError: A name or value is not a code, is reserved or repeated, or there are too many.
        """
        allowed: dict[str, frozenset[str] | None] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, _, values = part.partition("=")
            codes = values.split("|") if values else []
            if not _NAME.fullmatch(name) or name in RESERVED or name in allowed:
                raise SettingsError(
                    f"IMMR_CONTEXT declares {name!r}: use each name once, in lower case, other than "
                    f"{', '.join(RESERVED)}"
                )
            if wrong := [code for code in codes if not _VALUE.fullmatch(code)]:
                raise SettingsError(
                    f"IMMR_CONTEXT allows {name}={wrong[0]!r}: use codes of up to 32 letters, digits, '.', '_', '-'"
                )
            allowed[name] = frozenset(codes) or None
        if len(allowed) > MAX_DIMENSIONS:
            raise SettingsError(
                f"IMMR_CONTEXT declares {len(allowed)} dimensions: declare at most {MAX_DIMENSIONS}"
            )
        return cls(allowed)

    def problem(self, context: Mapping[str, str]) -> str:
        """What is wrong with a context, with the name of the dimension; empty if nothing is."""
        for name, value in context.items():
            if name not in self.allowed:
                known = ", ".join(self.allowed) or "none"
                return f"{name[:50]!r} is not a declared dimension: declared are {known} (IMMR_CONTEXT)"
            values = self.allowed[name]
            if values is not None and value not in values:
                return f"{name} is {value[:50]!r}: send one of {', '.join(sorted(values))}"
            if not _VALUE.fullmatch(value):
                return f"{name} is {value[:50]!r}: send a code of up to 32 letters, digits, '.', '_', '-'"
        return ""


def to_text(context: Mapping[str, str]) -> str:
    """A context as the event log stores it: JSON with sorted keys, or nothing."""
    return json.dumps(dict(context), sort_keys=True, separators=(",", ":")) if context else ""


def check_dimensions(names: Sequence[str], declared: Dimensions) -> None:
    """Refuse dimensions that no readout can be split by.

    Raises:
        ExperimentError: A name is neither declared nor one of `RESERVED`.
    """
    known = [*declared.allowed, *RESERVED]
    if unknown := [name for name in names if name not in known]:
        raise ExperimentError(
            f"there is no dimension {', '.join(unknown)}: split by {', '.join(known)}, or declare it in IMMR_CONTEXT"
        )
