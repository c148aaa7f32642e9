"""The decoded pictures of a step's photos and documents.

Shapes: N photos, M documents, B pictures of a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from immr.model.features.pixels import MappedPixels, Pixels
from immr.train.inputs.batches import Rows
from immr.types import ByteArray


@dataclass(frozen=True)
class Pictures:
    """Where each photo and document is among the decoded pictures."""

    pixels: Pixels
    photos_N: npt.NDArray[np.int64]  # rows of `pixels`
    documents_M: npt.NDArray[np.int64]  # −1 for a document without picture

    @classmethod
    def listed(cls, photos: Sequence[ByteArray], documents: Sequence[ByteArray | None]) -> Pictures:
        """Pictures in memory; None for a document without picture."""
        pixels = MappedPixels([*photos, *(each for each in documents if each is not None)])
        there_M = np.array([each is not None for each in documents], bool)
        documents_M = np.where(there_M, len(photos) + there_M.cumsum() - 1, -1)
        return cls(pixels, np.arange(len(photos)), documents_M)

    def of(self, rows: Rows) -> list[ByteArray | None]:
        """(H, W, 3) of a step's photos and then documents."""
        places_B = np.concatenate(
            [self.photos_N[rows.photos_B.numpy()], self.documents_M[rows.documents_B.numpy()]]
        )
        taken = iter(self.pixels.take(places_B[places_B >= 0].tolist()))
        return [next(taken) if place >= 0 else None for place in places_B.tolist()]
