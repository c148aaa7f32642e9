"""Photos as calibration takes them: embedded with their textures, as the Bento does.

The domain is fitted to more than the training photos, because shoppers' photos vary more: to copies of some of them,
changed in exposure, tint, sharpness and frame, and to pictures of the catalogue (ours).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from immr.data.pictures import picture_files
from immr.data.pictures.region import cropped
from immr.errors import DataError
from immr.evaluation.matches.calibrate import LabelledEmbeddings
from immr.machine.progress_bar import with_progress
from immr.model.query_encoder import OnnxQueryEncoder
from immr.types import FloatArray, Region

MOST = 600
"""Training photos that the domain is fitted to, at most; half as many changed copies, and catalogue pictures."""

_EXPOSURES = (0.3, 1.6)  # factors of the brightness
_TINT = 0.15  # largest change of one colour
_BLUR = 0.01  # largest radius, as a share of the width
_SMALL_PX = 32
_SMALLEST_FRAME = 0.4  # of each side
_THREADS = 2  # that encode in parallel


@dataclass(frozen=True)
class LabelledPictures:
    """URIs of pictures, and the class of each."""

    uris: Sequence[str]
    classes: Sequence[int]

    def spread(self, most: int) -> LabelledPictures:
        """At most `most` of them, evenly spread."""
        step = -(-len(self.uris) // most) or 1
        return LabelledPictures(self.uris[::step], self.classes[::step])

    def readable(self) -> LabelledPictures:
        """Without those that are missing or cannot be read."""
        kept = [row for row, uri in enumerate(self.uris) if uri and _is_readable(uri)]
        return LabelledPictures([self.uris[row] for row in kept], [self.classes[row] for row in kept])


def embed_with_textures(
    folder: Path, uris: Sequence[str], changed: bool = False
) -> tuple[FloatArray, FloatArray | None]:
    """Embed photos exactly as the Bento does, with the version's ONNX query encoder.

    Args:
        folder: of the version.
        uris: of the photos, at least one.
        changed: embed a changed copy of each.

    Returns:
        (N, D) unit rows and (N, T) textures in the order of `uris`; None for a version without textures.
    """
    return _embedded(_encoder(folder), uris, changed)


def _encoder(folder: Path) -> OnnxQueryEncoder:
    return OnnxQueryEncoder(folder, at_once=_THREADS)


def _embedded(
    encoder: OnnxQueryEncoder, uris: Sequence[str], changed: bool, what: str = "photos"
) -> tuple[FloatArray, FloatArray | None]:
    enough_px = encoder.card.preprocessing.enough_px

    def embedded(number: int) -> tuple[FloatArray, FloatArray | None]:
        picture = picture_files.load(uris[number], enough_px)
        if changed:
            picture = changed_copy(picture, np.random.default_rng(number))
        return encoder.encode_with_texture(picture)

    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(
            with_progress(pool.map(embedded, range(len(uris))), f"encoding {what}", "pictures", len(uris))
        )
    textures = [texture_T for _, texture_T in found if texture_T is not None]
    return np.stack([row_D for row_D, _ in found]), np.stack(textures) if textures else None


def labelled(folder: Path, pictures: LabelledPictures, changed: bool = False) -> LabelledEmbeddings:
    """`embed_with_textures`, with the classes."""
    return _labelled(_encoder(folder), pictures, changed)


def _labelled(
    encoder: OnnxQueryEncoder, pictures: LabelledPictures, changed: bool = False, what: str = "photos"
) -> LabelledEmbeddings:
    rows_ND, textures_NT = _embedded(encoder, pictures.uris, changed, what)
    return LabelledEmbeddings(rows_ND, np.array(pictures.classes, dtype=np.int64), textures_NT)


def fitted(folder: Path, photos: LabelledPictures, catalogue: LabelledPictures) -> LabelledEmbeddings:
    """What the domain is fitted to; for a version without textures, photos alone.

    Args:
        folder: of the version.
        photos: of training.
        catalogue: the items' main pictures; those that cannot be read are left out, as by the index.
    """
    chosen, encoder = photos.spread(MOST), _encoder(folder)
    plain = _labelled(encoder, chosen, what="training photos")
    if plain.textures_NT is None:
        return plain
    parts = [plain, _labelled(encoder, chosen.spread(MOST // 2), changed=True, what="altered photos")]
    pictures = catalogue.spread(MOST // 2).readable()
    if pictures.uris:
        parts.append(_labelled(encoder, pictures, what="catalogue pictures"))
    textures = [part.textures_NT for part in parts if part.textures_NT is not None]
    return LabelledEmbeddings(
        np.concatenate([part.rows_ND for part in parts]),
        np.concatenate([part.classes_N for part in parts]),
        np.concatenate(textures),
    )


def _is_readable(uri: str) -> bool:
    try:
        picture_files.load(uri, _SMALL_PX)
    except DataError:
        return False
    return True


def changed_copy(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Another photo of the same: darker or brighter, tinted, perhaps blurred and framed more tightly."""
    exposure = np.exp(rng.uniform(*np.log(_EXPOSURES)))
    factors_3 = exposure * rng.uniform(1 - _TINT, 1 + _TINT, 3)
    levels = np.clip(np.asarray(picture, dtype=np.float32) * factors_3, 0, 255)
    copy = Image.fromarray(levels.round().astype(np.uint8))
    if rng.random() < 0.5:
        copy = copy.filter(ImageFilter.GaussianBlur(rng.uniform(0, _BLUR) * copy.width))
    if rng.random() < 0.5:
        side = rng.uniform(_SMALLEST_FRAME, 1)
        x, y = rng.uniform(0, 1 - side, 2)
        copy = cropped(copy, Region(float(x), float(y), float(side), float(side)))
    return copy
