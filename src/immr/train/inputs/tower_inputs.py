"""Inputs of the towers from cached frozen features; `live` has those from pictures.

Shapes: B rows of one rank, F image features.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor

from immr.model.features.stored_features import StoredFeatures
from immr.model.towers import DocumentBatch
from immr.train.inputs.batches import Rows
from immr.train.inputs.features import TrainingArrays

_STEPS_AHEAD = 2


class TowerInputs(NamedTuple):
    """One step's inputs to the two towers."""

    photos_BF: Tensor
    documents: DocumentBatch


class InputSource(Protocol):
    """Gives the features of a step's rows."""

    def ahead(self, steps: Iterable[tuple[int, Rows]]) -> Iterator[tuple[int, Rows]]:
        """The same steps; inputs of the next ones are prepared meanwhile."""

    def __call__(self, rows: Rows, step: int) -> TowerInputs:
        """Features on the arrays' device, from rows on the host; differentiable if the encoder is trained."""


@dataclass(frozen=True)
class FrozenInputs:
    """Frozen features of each row's view, from the cache."""

    arrays: TrainingArrays

    def ahead(self, steps: Iterable[tuple[int, Rows]]) -> Iterator[tuple[int, Rows]]:
        """The same steps; features of the next ones are read from disk meanwhile."""
        if not isinstance(self.arrays.photos_NVF, StoredFeatures):
            yield from steps
            return
        waiting = deque[tuple[int, Rows]]()
        for each in steps:
            self.arrays.read_ahead(each[1])
            waiting.append(each)
            if len(waiting) > _STEPS_AHEAD:
                yield waiting.popleft()
        yield from waiting

    def __call__(self, rows: Rows, step: int) -> TowerInputs:
        """Features without a gradient."""
        arrays = self.arrays
        rows = rows.to(str(arrays.photos_NVF.device))
        return TowerInputs(
            arrays.photos_NVF[rows.photos_B, rows.photo_views_B].float(),
            arrays.documents.batch(rows.documents_B, rows.document_views_B),
        )
