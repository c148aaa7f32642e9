"""A set of more keys than fit in memory as text: 64-bit hashes in sorted runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

Hashes = npt.NDArray[np.uint64]


class KnownKeys:
    """Hashes of keys, eight bytes each, in sorted runs; each run is at least twice as long as the next.

    A key is therefore moved, and a lookup searches, a logarithmic number of times. The chance that any two of
    ten million keys collide is three in a million.
    """

    def __init__(self) -> None:
        self._runs: list[Hashes] = []

    def contain(self, hashes: Hashes) -> npt.NDArray[np.bool_]:
        """(N,) bool: which of these hashes were added before."""
        known = np.zeros(len(hashes), dtype=bool)
        order = np.argsort(hashes)
        in_order = hashes[order]  # several times faster: neighbours share cache lines
        for run in self._runs:
            at = np.searchsorted(run, in_order).clip(max=len(run) - 1)
            known[order] |= run[at] == in_order
        return known

    def add(self, hashes: Hashes) -> None:
        """Add hashes that are not known yet."""
        run = np.sort(hashes)
        while self._runs and len(self._runs[-1]) < 2 * len(run):
            run = np.sort(np.concatenate([self._runs.pop(), run]), kind="stable")
        if len(run):
            self._runs.append(run)


def hashes_of(frame: pd.DataFrame, columns: tuple[str, ...]) -> Hashes:
    """(N,) one hash per row, over the values of these columns."""
    import pandas as pd

    hashes = pd.util.hash_pandas_object(frame[list(columns)], index=False)
    return np.asarray(hashes, dtype=np.uint64)
