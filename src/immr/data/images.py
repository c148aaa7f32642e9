"""Reading pictures: bytes from where they lie, and an upright RGB image from what phones and shops send."""

from __future__ import annotations

import io
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
from PIL import Image, ImageOps

from immr.errors import DataError, ImageError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
MAX_PIXELS = 64_000_000
"""A 50-megapixel phone photo passes; a decompression bomb does not."""
# of what has to be in memory whole before it can be made smaller; 300 MB at the most (tests/data)
_MAX_PIXELS_WHOLE = 32_000_000
_MAX_PIXELS_WEBP = 16_000_000
_FEW_PIXELS = 4_000_000

_JPEGS = ("JPEG", "MPO")
_ORIENTATION = 0x0112


def read(uri: str) -> bytes:
    """The content behind a path or a file:// URI.

    Raises:
        DataError: another kind of URI, or nothing readable there.
    """
    try:
        return path_of(uri).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: no path at all, as one with a zero byte in it
        raise DataError(
            f"cannot read the image {uri!r} ({getattr(error, 'strerror', None) or error}): check the path in "
            "the table, or that the folder is mounted here"
        ) from error


def load(uri: str, min_side_px: int | None = None) -> Image.Image:
    """The picture behind a path or a file:// URI; see `read` and `decode`.

    Raises:
        DataError: it cannot be read.
        ImageError: it is no picture, and which one.
    """
    content = read(uri)
    try:
        return decode(content, min_side_px)
    except ImageError as error:
        raise ImageError(f"{uri}: {error}") from error


def placed(uri: str, folder: Path) -> str:
    """The same picture, where a relative path starts from this folder."""
    return uri if uri.startswith("/") or "://" in uri else str(folder / uri)


def decode(
    content: bytes,
    min_side_px: int | None = None,
    max_pixels: int = MAX_PIXELS,
    whole: AbstractContextManager[object] | None = None,
) -> Image.Image:
    """An upright 8-bit RGB picture: EXIF turned, first frame, white behind transparency.

    Args:
        content: a JPEG, PNG, WebP, GIF or BMP file.
        min_side_px: a picture may come out smaller than it is, with no side below this: takes less memory,
            and of a JPEG a fraction of the time.
        max_pixels: width × height above this is refused before anything is decoded. All but plain JPEGs have
            to be in memory whole: those are refused above 32 million, WebP above 16.
        whole: held while a picture of over 4 million pixels is in memory whole; a lock bounds the memory of
            many threads.

    Raises:
        ImageError: empty, of another format, too large, or broken.
    """
    if not content:
        raise ImageError("the image is empty (0 bytes): send the file's content")
    image = _open(content)
    width, height = image.size
    limit = min(max_pixels, _most_pixels(image))
    if width * height > limit:
        raise ImageError(
            f"the image has {width}×{height} pixels, more than the limit of {limit:,}: send a smaller one"
        )
    if min_side_px and image.format in _JPEGS:
        image.draft("RGB", (min_side_px, min_side_px))
    is_whole = width * height > _FEW_PIXELS and not (min_side_px and _is_plain_jpeg(image))
    with whole if whole is not None and is_whole else nullcontext():
        try:
            image.load()
            return _on_white(_upright(_reduced(image, min_side_px) if min_side_px else image))
        except Exception as error:  # broken files make Pillow raise nearly anything
            raise ImageError(
                f"the image is broken or cut off ({error}): save it again and resend it"
            ) from error


def path_of(uri: str) -> Path:
    """Where a picture lies.

    Raises:
        DataError: a URI that is no file's.
        ValueError: no URI at all.
    """
    if "://" not in uri:
        return Path(uri)
    parts = urlsplit(uri)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        raise DataError(
            f"images are read from paths and file:// URIs, not from {uri}: copy the images to a folder first"
        )
    return Path(unquote(parts.path))


def _open(content: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(content), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError("the image has far too many pixels: send a smaller one") from error
    except Exception as error:  # not only UnidentifiedImageError: a broken header raises what it likes
        raise ImageError("this is no picture that we read: send a JPEG, PNG, WebP, GIF or BMP") from error


def _is_plain_jpeg(image: Image.Image) -> bool:
    """Made smaller line by line as it is read; of a progressive one the decoder keeps all."""
    return image.format in _JPEGS and "progressive" not in image.info


def _most_pixels(image: Image.Image) -> int:
    if _is_plain_jpeg(image):
        return MAX_PIXELS
    return _MAX_PIXELS_WEBP if image.format == "WEBP" else _MAX_PIXELS_WHOLE


def _reduced(image: Image.Image, min_side_px: int) -> Image.Image:
    """Smaller by a whole factor, with no side below `min_side_px`."""
    factor = min(image.size) // min_side_px
    if factor < 2:
        return image
    if "transparency" in image.info or image.mode == "PA":
        image = image.convert("RGBA")
    elif image.mode in ("P", "1"):
        image = image.convert("RGB")
    elif image.mode.startswith("I;16"):
        image = image.convert("I")
    return image.reduce(factor)


def _upright(image: Image.Image) -> Image.Image:
    try:
        turned = image.getexif().get(_ORIENTATION, 1) not in (0, 1)
        return ImageOps.exif_transpose(image) if turned else image
    except Exception:  # a broken EXIF block is no reason to refuse a good picture
        return image


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image if type(image) is Image.Image else image.copy()
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return _from_deep_grey(image)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        front = image.convert("RGBA")
        white = Image.new("RGBA", front.size, "white")
        return Image.alpha_composite(white, front).convert("RGB")
    return image.convert("RGB")


def _from_deep_grey(image: Image.Image) -> Image.Image:
    values = np.asarray(image, dtype=np.float32)
    full = 65535.0 if values.max(initial=0.0) > 255 else 255.0
    return Image.fromarray((values / full * 255).clip(0, 255).astype(np.uint8)).convert("RGB")
