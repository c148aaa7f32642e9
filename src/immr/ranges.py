"""Types of a recipe's numbers by their range, which is checked where a recipe is read from a file."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Interval

_LARGE = 1e9

Count = Annotated[int, Interval(ge=1, le=1_000_000_000)]
CountOrZero = Annotated[int, Interval(ge=0, le=1_000_000_000)]
Pixels = Annotated[int, Interval(ge=1, le=4096)]
"""The side of a picture that an encoder sees."""
Seed = Annotated[int, Interval(ge=0, le=2**31 - 1)]

Share = Annotated[float, Interval(ge=0, le=1)]
ShareAboveZero = Annotated[float, Interval(gt=0, le=1)]
ShareBelowOne = Annotated[float, Interval(ge=0, lt=1)]
Confidence = Annotated[float, Interval(gt=0, lt=1)]
Difference = Annotated[float, Interval(ge=-1, le=1)]
"""Between two metrics or cosines."""

Weight = Annotated[float, Interval(ge=0, le=_LARGE)]
SignedWeight = Annotated[float, Interval(ge=-_LARGE, le=_LARGE)]
Positive = Annotated[float, Interval(gt=0, le=_LARGE)]
