"""Augmented pictures of a step as the encoder's input: on a CPU by Pillow, on a GPU in prefetched batches.

Both draw the same random numbers, which depend on seed, step and row, not on rank, thread or device.

Shapes: B pictures, S image side in pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from immr.model.preprocessing import Preprocessing
from immr.train.inputs.augmentation import Augmentation, DomainAugmentations, DrawnChange
from immr.train.inputs.batches import Rows
from immr.train.inputs.device_augmentation import Sheets, changed, sheets
from immr.train.inputs.pictures import Pictures
from immr.train.inputs.random_numbers import random_numbers
from immr.train.inputs.step_prefetch import Prefetched
from immr.train.seeds import derived_seed
from immr.types import ByteArray

_PHOTOS, _CATALOGUE = 0, 1  # streams of random numbers
STEPS_AHEAD = 4  # steps prepared while one is computed


class _Drawn(NamedTuple):
    picture: ByteArray | None
    change: DrawnChange


class AugmentedPictures(Protocol):
    """Gives the pixels of a step."""

    def ahead(self, steps: Iterable[tuple[int, Rows]]) -> Iterator[tuple[int, Rows]]:
        """The same steps, with pictures of the next ones prefetched."""

    def __call__(self, rows: Rows, step: int) -> Tensor:
        """Preprocessed pixels of photos and then documents, (B, 3, S, S), channels last in memory."""


@dataclass(frozen=True)
class Drawing:
    """Pictures and the random numbers of their changes."""

    pictures: Pictures
    augmentations: DomainAugmentations
    side_px: int
    seed: int

    def of(self, rows: Rows, step: int) -> list[_Drawn]:
        """The pictures of a step with their changes: photos, then documents."""
        found, count, domains = self.pictures.of(rows), len(rows.photos_B), self.augmentations
        return [
            *self._drawn(found[:count], rows.photos_B, domains.photo, _PHOTOS, step),
            *self._drawn(found[count:], rows.documents_B, domains.catalogue, _CATALOGUE, step),
        ]

    def _drawn(
        self,
        pictures: Sequence[ByteArray | None],
        rows_B: Tensor,
        domain: Augmentation,
        stream: int,
        step: int,
    ) -> Iterator[_Drawn]:
        dice_B = random_numbers(derived_seed(self.seed, 2, stream, step), rows_B.numpy().tolist())
        for picture, numbers in zip(pictures, dice_B, strict=True):
            if picture is None:
                yield _Drawn(None, _SAME)
            else:
                height, width = picture.shape[:2]
                yield _Drawn(picture, domain.drawn(width, height, self.side_px, numbers))


class HostAugmentedPictures:
    """Changes pictures one by one in threads, with Pillow."""

    def __init__(self, drawing: Drawing, preprocessing: Preprocessing):
        self._drawing, self._preprocessing = drawing, preprocessing
        self._pool = ThreadPoolExecutor(max(1, torch.get_num_threads()))  # Pillow and numpy release the GIL
        # pictures in memory are not prefetched: the cores are busy computing
        self._drawn = Prefetched(drawing.of, STEPS_AHEAD if drawing.pictures.pixels.read_ahead else 0)

    def ahead(self, steps: Iterable[tuple[int, Rows]]) -> Iterator[tuple[int, Rows]]:
        """See `AugmentedPictures`."""
        return self._drawn.ahead(steps)

    def __call__(self, rows: Rows, step: int) -> Tensor:
        """See `AugmentedPictures`."""
        squares = list(self._pool.map(self._changed, self._drawn.of(rows, step)))
        pixels_BSSC = torch.from_numpy(np.stack(squares)).float()
        pixels_BSSC.sub_(self._preprocessing.mean).div_(self._preprocessing.std)
        return pixels_BSSC.permute(0, 3, 1, 2)  # channels last in memory: twice as fast here

    def _changed(self, drawn: _Drawn) -> ByteArray:
        side = self._drawing.side_px
        if drawn.picture is None:  # ignored: the tower has a learned vector for a missing picture
            return np.full((side, side, 3), round(self._preprocessing.mean), dtype=np.uint8)
        return drawn.change.applied(drawn.picture, side)


class DeviceAugmentedPictures:
    """Prefetches pictures to the device, in threads and on a separate stream, and changes them there."""

    def __init__(self, drawing: Drawing, preprocessing: Preprocessing, device: torch.device):
        self._drawing, self._preprocessing, self._device = drawing, preprocessing, device
        self._on_gpu = device.type == "cuda"
        self._copying = torch.cuda.Stream(device) if self._on_gpu else None  # type: ignore[no-untyped-call]
        self._batches = Prefetched(self._copied, STEPS_AHEAD)
        self._strokes = max(domain.stroke for domain in drawing.augmentations) > 0

    def ahead(self, steps: Iterable[tuple[int, Rows]]) -> Iterator[tuple[int, Rows]]:
        """See `AugmentedPictures`."""
        return self._batches.ahead(steps)

    def __call__(self, rows: Rows, step: int) -> Tensor:
        """See `AugmentedPictures`."""
        batch, copied = self._batches.of(rows, step)
        if copied is not None:
            current = torch.cuda.current_stream(self._device)
            current.wait_event(copied)
            batch.record_stream(current)
        pixels_B3SS = changed(batch, self._drawing.side_px, self._strokes)
        pixels_B3SS.sub_(self._preprocessing.mean).div_(self._preprocessing.std)
        return pixels_B3SS.contiguous(memory_format=torch.channels_last)

    def _copied(self, rows: Rows, step: int) -> _Copied:
        """The batch on the device, and the event that marks its arrival."""
        drawn = self._drawing.of(rows, step)
        blank = np.full((1, 1, 3), round(self._preprocessing.mean), dtype=np.uint8)
        pictures = [blank if each.picture is None else each.picture for each in drawn]
        changes = [each.change for each in drawn]
        if self._copying is None:
            return _Copied(sheets(pictures, changes), None)
        with torch.cuda.stream(self._copying):  # of this thread; also chooses the device
            batch = sheets(pictures, changes, pinned=True).to(self._device)
            return _Copied(batch, self._copying.record_event())


class _Copied(NamedTuple):
    batch: Sheets
    arrived: torch.cuda.Event | None


_SAME = DrawnChange(0, None, (0.0, 0.0, 1.0, 1.0), 0.0, False, False, None, None)  # of a picture of one pixel
