"""Cache of decoded pictures by content hash, so that training decodes each only once.

They are mapped from files below `cache_dir`, or read from shards elsewhere (see `immr.model.features.pixel_shards`).

Pictures keep their aspect ratio, with a short side of S pixels; the long side is cut at twice that. Drawings are
kept as their frame, a square of side S (see `immr.model.framing`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image, ImageOps

from immr.data.pictures import picture_files
from immr.data.sources.locations import Location
from immr.errors import DataError, ImageError
from immr.machine.prefetch import prefetched
from immr.machine.progress_bar import ProgressBar
from immr.machine.worker_processes import in_processes
from immr.model.features.image_features import Share
from immr.model.features.pixel_shards import ShardStore
from immr.model.framing import WORKING_PX, framed
from immr.model.model_recipe import FramingName
from immr.storage.array_store import ArrayStore
from immr.types import ByteArray

_LONGEST = 2.0  # long side over short side
_SHARD_PICTURES, _GROUP = 256, 32
_FITTING = {"centre": "bicubic-2", "drawing": "drawing-1"}  # part of the cache's name
_log = logging.getLogger(__name__)


class Pixels(Protocol):
    """Decoded pictures by row."""

    @property
    def read_ahead(self) -> bool:
        """Whether taking them waits for a disk or network, so that they should be taken before they are needed."""

    def take(self, rows: Sequence[int]) -> list[ByteArray]:
        """(H, W, 3) of each row. Safe in threads."""


class MappedPixels(list[ByteArray]):
    """`Pixels` in memory or mapped into it."""

    read_ahead = False

    def take(self, rows: Sequence[int]) -> list[ByteArray]:
        """See `Pixels`."""
        return [self[row] for row in rows]


class PixelCache:
    """Pictures with a short side of `side_px`."""

    def __init__(self, cache_dir: Path, side_px: int, framing: FramingName = "centre", url: str = ""):
        """Open or create the store.

        Args:
            cache_dir: pictures are kept below it, unless there is a URL.
            side_px: the short side.
            framing: what is kept of a picture.
            url: keep shards below it, in `file://`, `s3://` or `gs://`.

        Raises:
            ContractError: no file system understands the URL.
        """
        self.side_px = side_px
        self._framing = framing
        self._enough_px = max(2 * side_px, WORKING_PX if framing == "drawing" else 0)
        name = f"{side_px}-{_FITTING[framing]}"
        self._store: ArrayStore | ShardStore = ArrayStore(cache_dir / "pixels" / name, np.uint8)
        if url:
            self._store = ShardStore(Location.of(url) / name)

    def compute(self, hashes: Mapping[str, str], share: Share | None = None) -> None:
        """Decode this share's pictures that are not in the cache. Broken or changed ones are logged and skipped.

        Args:
            hashes: image URI → hash of its content.
            share: this process's share of the work.

        Raises:
            TrainingError: shards cannot be read or written.
        """
        share = share or Share()
        by_hash = {content: uri for uri, content in hashes.items()}
        mine = share.of(by_hash)
        known = self._store.has(mine)
        todo = [key for key in mine if key not in known]
        groups = [todo[start : start + _GROUP] for start in range(0, len(todo), _GROUP)]
        workers = share.threads if share.threads > 1 else 0
        decoded: dict[str, ByteArray] = {}
        with ProgressBar("decoding", len(todo), "pictures", share.rank == 0) as progress:
            for keys, pictures in zip(groups, self._in_groups(groups, by_hash, workers), strict=True):
                decoded |= {
                    key: picture for key, picture in zip(keys, pictures, strict=True) if picture is not None
                }
                if len(decoded) >= _SHARD_PICTURES:
                    self._store.add(decoded)
                    decoded = {}
                progress.advance(len(keys))
        self._store.add(decoded)

    def _in_groups(
        self, groups: Sequence[Sequence[str]], uris: Mapping[str, str], workers: int
    ) -> Iterator[list[ByteArray | None]]:
        """The pictures of each group, decoded ahead: in threads, next to a GPU in processes.

        A machine with a GPU has more cores than threads can use, which wait for each other's Python.
        """

        def decode(keys: Sequence[str]) -> list[ByteArray | None]:
            return [self._decoded(uris[key], key) for key in keys]

        if _has_gpu():
            return in_processes(decode, groups, workers)
        return prefetched(decode, groups, workers, _SHARD_PICTURES // _GROUP)

    def read(self, keys: Sequence[str]) -> Pixels:
        """A row for each key, in this order.

        Raises:
            ImageError: a picture is missing, because it is broken.
            TrainingError: shards cannot be read.
        """
        if isinstance(self._store, ShardStore):
            try:
                return self._store.rows(keys)
            except KeyError as error:
                raise _missing(error.args) from error
        found = self._store.get(keys)
        if lost := set(keys) - found.keys():
            raise _missing(lost)
        return MappedPixels(found[key] for key in keys)

    def _decoded(self, uri: str, sha256: str) -> ByteArray | None:
        """None for a broken or changed picture."""
        try:
            return self._fitted(picture_files.load(uri, self._enough_px, sha256))
        except DataError as error:
            _log.warning("skipping the picture %s: %s", uri, error)
            return None

    def _fitted(self, picture: Image.Image) -> ByteArray:
        if self._framing == "drawing":
            return np.asarray(framed(picture, self.side_px))
        return _resized(picture, self.side_px)


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _missing(keys: Iterable[str]) -> ImageError:
    lost = sorted(set(keys))
    return ImageError(
        "pictures that are not in the cache, because they are missing, broken or have changed since `immr govern` "
        f"read them: {len(lost):,}, the first with SHA-256 {lost[0]}; run it again, with check_images"
    )


def _resized(picture: Image.Image, side_px: int) -> ByteArray:
    width, height = picture.size
    longest = round(min(width, height) * _LONGEST)
    if max(width, height) > longest:
        picture = ImageOps.fit(picture, (min(width, longest), min(height, longest)))
        width, height = picture.size
    factor = side_px / min(width, height)
    size = max(side_px, round(width * factor)), max(side_px, round(height * factor))
    return np.asarray(picture.resize(size, Image.Resampling.BICUBIC), dtype=np.uint8)
