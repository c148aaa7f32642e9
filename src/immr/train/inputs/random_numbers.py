"""Random numbers of pictures: a pure function of seed and row, drawn for a whole batch at once.

Seeding a generator for each picture takes longer than drawing the picture's numbers, and holds the
interpreter's lock, which a GPU's launches need.

Shapes: B pictures, K numbers of a picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

NUMBERS = 32  # of a picture; no change takes more
# splitmix64 (Steele, Lea & Flood 2014), as in `classifier.counter_random`
_STEP, _FIRST, _SECOND = np.array(
    [0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB], dtype=np.uint64
)


class RandomNumbers:
    """The random numbers of one picture; each is used once."""

    def __init__(self, numbers: Iterable[float]):
        self._numbers = iter(numbers)

    def between(self, low: float, high: float) -> float:
        """Uniform in [low, high)."""
        return low + (high - low) * next(self._numbers)

    def below(self, count: int) -> int:
        """Uniform in 0 … count − 1."""
        return int(count * next(self._numbers))

    def happens(self, share: float) -> bool:
        """True with this probability."""
        return next(self._numbers) < share


def random_numbers(seed: int, rows_B: Sequence[int] | npt.NDArray[np.int64]) -> list[RandomNumbers]:
    """The numbers of each row, the same whatever other rows are drawn with it.

    Args:
        seed: of a step and a kind of pictures.
        rows_B: row numbers.
    """
    first_B1 = np.asarray(rows_B, dtype=np.uint64)[:, None] * np.uint64(NUMBERS)
    counters_BK = first_B1 + np.arange(1, NUMBERS + 1, dtype=np.uint64)
    mixed_BK: npt.NDArray[np.uint64] = counters_BK * _STEP + np.uint64(seed)
    mixed_BK = (mixed_BK ^ (mixed_BK >> np.uint64(30))) * _FIRST
    mixed_BK = (mixed_BK ^ (mixed_BK >> np.uint64(27))) * _SECOND
    mixed_BK ^= mixed_BK >> np.uint64(31)
    return [RandomNumbers(numbers) for numbers in ((mixed_BK >> np.uint64(11)) * 2.0**-53).tolist()]
