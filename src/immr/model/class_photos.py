"""Class photos: training photos by which the items of their class are found, beside their catalogue pictures.

An item is found by the most similar of its rows: its document, or a photo (nearest neighbours in place of the
nearest class mean, Mensink et al. 2013). The row of a photo is norm(photo + 0.25 × norm(class mean + document)): it
leans towards its class, because its label may be wrong, and towards its item, because other items of the class have
the same photos (ours). Photos resemble photos more than catalogue pictures, so items without photos would be found
too rarely: use it with `picture_as_photo`.

Shapes: N items, P rows or photos, C classes with photos, D embedding.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from immr.model.model_card import CLASS_PHOTOS
from immr.storage.scratch import scratch
from immr.types import FloatArray

_SHARE = 0.25  # of class and document in the row of a photo


@dataclass(frozen=True)
class ClassPhotos:
    """The class photos of a version.

    Attributes:
        class_of: the number of each item's class, by item_id; only items with photos.
        count_C: photos of each class, which follow each other in `rows_PD`.
        rows_PD: their embeddings, unit rows.
    """

    class_of: dict[str, int]
    count_C: list[int]
    rows_PD: FloatArray

    @classmethod
    def read(cls, folder: Path) -> ClassPhotos | None:
        """The class photos in a version's folder; None if it has none."""
        if not (folder / CLASS_PHOTOS).is_file():
            return None
        with np.load(folder / CLASS_PHOTOS) as arrays:
            class_of = dict(zip(arrays["item_ids"].tolist(), arrays["classes"].tolist(), strict=True))
            return cls(class_of, arrays["count"].tolist(), arrays["rows"].astype(np.float32))

    def write(self, folder: Path) -> None:
        """Write the file that `read` reads."""
        np.savez(
            folder / CLASS_PHOTOS,
            item_ids=np.array(list(self.class_of), dtype=str),
            classes=np.array(list(self.class_of.values()), dtype=np.int32),
            count=np.array(self.count_C, dtype=np.int32),
            rows=self.rows_PD.astype(np.float16),
        )

    def number_of(self, item_ids: Iterable[str]) -> int:
        """How many rows `added` adds to these items."""
        return sum(self.count_C[self.class_of[item_id]] for item_id in item_ids if item_id in self.class_of)

    def added(
        self, item_ids: Sequence[str], rows_PD: FloatArray, pictures_N: Sequence[int]
    ) -> tuple[FloatArray, list[int], npt.NDArray[np.int64]]:
        """Rows of items followed by those of their class's photos.

        Args:
            item_ids: N ids.
            rows_PD: unit rows of the items' pictures, one item after the other, its main picture first.
            pictures_N: how many rows each item has.

        Returns:
            The unit rows, how many each item has now, and for each row (P,) its photo's place in `rows_PD`, −1 for a
            given row.
        """
        end_C = np.cumsum(self.count_C)
        found_PD = scratch((len(rows_PD) + self.number_of(item_ids), rows_PD.shape[1]))
        photo_P, counts_N = np.full(len(found_PD), -1), []
        read = written = 0
        for item_id, pictures in zip(item_ids, pictures_N, strict=True):
            own_PD = rows_PD[read : read + pictures]
            read += pictures
            found_PD[written : written + pictures] = own_PD
            counts_N.append(pictures)
            number = self.class_of.get(item_id)
            if number is not None:
                places = np.arange(end_C[number] - self.count_C[number], end_C[number])
                photos_PD = self.rows_PD[places]
                added = slice(written + pictures, written + pictures + len(places))
                found_PD[added] = _unit(photos_PD + _SHARE * _unit(_unit(photos_PD.sum(0)) + own_PD[0]))
                photo_P[added] = places
                counts_N[-1] += len(places)
            written += counts_N[-1]
        return found_PD, counts_N, photo_P


def _unit(rows_PD: FloatArray) -> FloatArray:
    norm_P1 = np.linalg.norm(rows_PD, axis=-1, keepdims=True)
    unit_PD: FloatArray = rows_PD / np.maximum(norm_P1, np.float32(1e-12))
    return unit_PD
