"""Cache of decoded pictures on disk by content hash, memory-mapped, so that training decodes each only once.

Pictures keep their aspect ratio, with a short side of S pixels; the long side is cut at twice that. Drawings are
kept as their frame, a square of side S (see `immr.model.framing`).
"""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps
from tqdm import tqdm

from immr.data import images
from immr.errors import DataError, ImageError
from immr.model.features.image_features import Share
from immr.model.framing import WORKING_PX, framed
from immr.model.model_recipe import FramingName
from immr.storage import fingerprint
from immr.storage.atomic import write_atomically

ByteArray = npt.NDArray[np.uint8]

_LONGEST = 2.0  # long side over short side
_SHARD_PICTURES = 256
_FITTING = {"centre": "bicubic-2", "drawing": "drawing-1"}  # part of the cache's name
_log = logging.getLogger(__name__)


class PixelCache:
    """Pictures with a short side of `side_px`. A shard is `<name>.npy`, with its index in `<name>.json`."""

    def __init__(self, cache_dir: Path, side_px: int, framing: FramingName = "centre"):
        self.side_px = side_px
        self._framing = framing
        self._enough_px = max(2 * side_px, WORKING_PX if framing == "drawing" else 0)
        self._folder = cache_dir / "pixels" / f"{side_px}-{_FITTING[framing]}"

    def compute(self, hashes: Mapping[str, str], share: Share | None = None) -> None:
        """Decode this share's pictures that are not in the cache. Broken pictures are logged and skipped.

        Args:
            hashes: image URI → hash of its content.
            share: this process's share of the work.
        """
        share = share or Share()
        by_hash = {content: uri for uri, content in hashes.items()}
        known = self._index().keys()
        todo = [key for key in share.of(by_hash) if key not in known]
        quiet = True if share.rank else None
        with tqdm(total=len(todo), desc="decoding", unit="img", disable=quiet, leave=False) as progress:
            for start in range(0, len(todo), _SHARD_PICTURES):
                keys = todo[start : start + _SHARD_PICTURES]
                self._write({key: by_hash[key] for key in keys})
                progress.update(len(keys))

    def read(self, keys: Sequence[str]) -> list[ByteArray]:
        """(H, W, 3) views into the shards, in the order of `keys`.

        Raises:
            ImageError: a picture is missing, because it is broken.
        """
        index = self._index()
        if lost := sorted(set(keys) - index.keys()):
            raise ImageError(
                f"{len(lost)} broken pictures are not in the cache, the first has SHA-256 {lost[0]}: "
                "run `immr govern` with check_images, which removes broken pictures"
            )
        paths = sorted({index[key][0] for key in keys})
        shards = {path: np.load(path, mmap_mode="r") for path in paths}
        return [_view(shards[path], *place) for path, *place in (index[key] for key in keys)]

    def _write(self, uris: Mapping[str, str]) -> None:
        flat, places, offset = list[ByteArray](), dict[str, tuple[int, int, int]](), 0
        for key, uri in uris.items():
            try:
                picture = images.load(uri, min_side_px=self._enough_px)
            except DataError as error:
                _log.warning("skipping the picture %s: %s", uri, error)
                continue
            pixels_HWC = self._fitted(picture)
            places[key] = (offset, *pixels_HWC.shape[:2])
            flat.append(pixels_HWC.ravel())
            offset += pixels_HWC.size
        if not places:
            return
        name, content = fingerprint.of_values(sorted(places))[:32], io.BytesIO()
        np.save(content, np.concatenate(flat))
        write_atomically(self._folder / f"{name}.npy", content.getvalue())
        write_atomically(self._folder / f"{name}.json", json.dumps(places))

    def _fitted(self, picture: Image.Image) -> ByteArray:
        if self._framing == "drawing":
            return np.asarray(framed(picture, self.side_px))
        return _resized(picture, self.side_px)

    def _index(self) -> dict[str, tuple[Path, int, int, int]]:
        """Hash → shard, offset, height, width."""
        index: dict[str, tuple[Path, int, int, int]] = {}
        for path in sorted(self._folder.glob("[!.]*.json")):
            shard = path.with_suffix(".npy")
            index |= {key: (shard, *place) for key, place in json.loads(path.read_text()).items()}
        return index


def _resized(picture: Image.Image, side_px: int) -> ByteArray:
    width, height = picture.size
    longest = round(min(width, height) * _LONGEST)
    if max(width, height) > longest:
        picture = ImageOps.fit(picture, (min(width, longest), min(height, longest)))
        width, height = picture.size
    factor = side_px / min(width, height)
    size = max(side_px, round(width * factor)), max(side_px, round(height * factor))
    return np.asarray(picture.resize(size, Image.Resampling.BICUBIC), dtype=np.uint8)


def _view(shard: ByteArray, offset: int, height: int, width: int) -> ByteArray:
    return shard[offset : offset + height * width * 3].reshape(height, width, 3)
