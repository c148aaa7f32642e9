"""Types of a recipe's numbers by their range, which is checked where a recipe is read from a file."""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Interval
from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

_LARGE = 1e9


def _refuse_boolean(value: Any) -> Any:
    if isinstance(value, bool):  # Pydantic reads true as 1
        raise PydanticCustomError("boolean", "Input should be a number, not true or false")
    return value


_NUMBER = BeforeValidator(_refuse_boolean)

Count = Annotated[int, Interval(ge=1, le=1_000_000_000), _NUMBER]
CountOrZero = Annotated[int, Interval(ge=0, le=1_000_000_000), _NUMBER]
Pixels = Annotated[int, Interval(ge=1, le=4096), _NUMBER]
"""The side of a picture that an encoder sees."""
Seed = Annotated[int, Interval(ge=0, le=2**31 - 1), _NUMBER]

Share = Annotated[float, Interval(ge=0, le=1), _NUMBER]
ShareAboveZero = Annotated[float, Interval(gt=0, le=1), _NUMBER]
ShareBelowOne = Annotated[float, Interval(ge=0, lt=1), _NUMBER]
Confidence = Annotated[float, Interval(gt=0, lt=1), _NUMBER]
Difference = Annotated[float, Interval(ge=-1, le=1), _NUMBER]
"""Between two metrics or cosines."""

Weight = Annotated[float, Interval(ge=0, le=_LARGE), _NUMBER]
SignedWeight = Annotated[float, Interval(ge=-_LARGE, le=_LARGE), _NUMBER]
Positive = Annotated[float, Interval(gt=0, le=_LARGE), _NUMBER]
