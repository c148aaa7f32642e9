"""Evaluates gradient-boosted trees in NumPy, so that a Bento needs no LightGBM.

All conditions of all trees are checked at once. A condition that fails rules out the leaves on its left, and
the first remaining leaf is the tree's answer (QuickScorer; Lucchese et al., SIGIR 2015).

Shapes: N rows, F signals, T trees, I inner nodes of a tree, M = T × I, L ≤ 32 leaves of a tree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

MAX_LEAVES = 32
_ALL = 0xFFFFFFFF


@dataclass(frozen=True)
class Tree:
    """One tree. A row goes left at a node if its signal is at most the threshold.

    Attributes:
        signals: (I,) column of each node's signal.
        thresholds: (I,).
        unknown_left: (I,) whether NaN goes left.
        lefts: (I,) bits of the leaves below each node's left branch; leaves are numbered from the left.
        values: (I + 1,) of the leaves.
    """

    signals: Sequence[int]
    thresholds: Sequence[float]
    unknown_left: Sequence[bool]
    lefts: Sequence[int]
    values: Sequence[float]


@dataclass(frozen=True)
class Trees:
    """A sum of trees."""

    trees: Sequence[Tree]
    _signals_M: npt.NDArray[np.intp] = field(init=False, repr=False, compare=False)
    _thresholds_M: npt.NDArray[np.float64] = field(init=False, repr=False, compare=False)
    _unknown_left_M: npt.NDArray[np.bool_] = field(init=False, repr=False, compare=False)
    _remaining_M: npt.NDArray[np.uint32] = field(init=False, repr=False, compare=False)
    _values_TL: npt.NDArray[np.float64] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Lay the trees out as arrays of equal length; padding nodes send every row left."""
        count = len(self.trees)
        inner = max((len(tree.signals) for tree in self.trees), default=0)
        signals = np.zeros((count, inner), dtype=np.intp)
        thresholds = np.full((count, inner), np.inf)
        unknown_left = np.ones((count, inner), dtype=np.bool_)
        remaining = np.full((count, inner), _ALL, dtype=np.uint32)
        values = np.zeros((count, inner + 1))
        for number, tree in enumerate(self.trees):
            nodes = len(tree.signals)
            signals[number, :nodes] = tree.signals
            thresholds[number, :nodes] = tree.thresholds
            unknown_left[number, :nodes] = tree.unknown_left
            remaining[number, :nodes] = [_ALL ^ left for left in tree.lefts]
            values[number, : nodes + 1] = tree.values
        for name, array in (
            ("_signals_M", signals.ravel()),
            ("_thresholds_M", thresholds.ravel()),
            ("_unknown_left_M", unknown_left.ravel()),
            ("_remaining_M", remaining.ravel()),
            ("_values_TL", values),
        ):
            object.__setattr__(self, name, array)

    def predict(self, signals_NF: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """(N,) sums over all trees."""
        rows, count = len(signals_NF), len(self.trees)
        if not rows or not self._signals_M.size:
            return np.full(rows, self._values_TL.sum())
        given_MN = signals_NF.T[self._signals_M]
        left_MN = given_MN <= self._thresholds_M[:, None]  # False for NaN
        if np.isnan(signals_NF).any():
            left_MN |= np.isnan(given_MN) & self._unknown_left_M[:, None]
        kept_MN = np.where(left_MN, np.uint32(_ALL), self._remaining_M[:, None])
        kept_TN = np.bitwise_and.reduce(kept_MN.reshape(count, -1, rows), axis=1)
        lowest_TN = kept_TN & (~kept_TN + np.uint32(1))
        leaf_TN = np.frexp(lowest_TN.astype(np.float64))[1] - 1
        summed_N: npt.NDArray[np.float64] = self._values_TL[np.arange(count)[:, None], leaf_TN].sum(axis=0)
        return summed_N
