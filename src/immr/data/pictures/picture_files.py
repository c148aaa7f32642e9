"""Reads picture files: the content behind a path, and an upright sRGB image of what phones and shops send."""

from __future__ import annotations

import hashlib
import io
import unicodedata
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from urllib.parse import unquote, urlsplit

from PIL import Image, UnidentifiedImageError

from immr.data.pictures import jpeg, png
from immr.data.pictures.colour_profiles import to_srgb
from immr.data.pictures.file_kinds import media_type_of, other_kind_of
from immr.data.pictures.orientation import orientation_of, upright
from immr.data.pictures.pixel_formats import Box, ignore_empty_alpha, opaque, scale_transparency
from immr.data.pictures.relocation import FETCHED
from immr.errors import DataError, ImageError
from immr.storage import fingerprint

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
MAX_PIXELS = 64_000_000
"""Accepts a 50-megapixel phone photo and refuses a decompression bomb."""
# formats that are in memory as a whole before they can be made smaller: 300 MB at most (tests/data)
_MAX_PIXELS_WHOLE = 32_000_000
_MAX_PIXELS_WEBP = 16_000_000
_MOST_PIXELS_A_SIDE = 65_535  # as in a JPEG; Pillow needs up to 30 bytes for each line of any other, too
_FEW_PIXELS = 4_000_000
_MOST_BYTES = 2**28  # more than 32 million pixels have, of 16 bits and four channels
_MOST_SCANS = 100  # of a JPEG; encoders write about ten, and a file of 10 MB can have a million
_MOST_RLE_BYTES = 2**22  # of a BMP in run lengths, which Pillow decodes in Python, about 6 MB a second
_SHOWN_CHARS = 300  # of a path in a message: a column may hold whole pictures as data: URLs

_JPEGS = ("JPEG", "MPO")
_END_OF_JPEG = b"\xff\xd9"


def read(uri: str) -> bytes:
    """The content of a file, given by path or file:// URI.

    Raises:
        DataError: another kind of URI, or an unreadable file.
    """
    try:
        return _regular(path_of(uri)).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        remedy = (
            "it was fetched into an IMMR_HOME that has moved; run `immr govern` on the data again, which fetches "
            "nothing twice"
            if FETCHED.fullmatch(uri)
            else "check the path in the table (`immr data check` looks for it), or that the folder is mounted here"
        )
        shown = uri if len(uri) <= _SHOWN_CHARS else f"{uri[:_SHOWN_CHARS]}…"
        raise DataError(
            f"cannot read the image {shown!r} ({getattr(error, 'strerror', None) or error}): {remedy}"
        ) from error


def _regular(path: Path) -> Path:
    """The path itself, after checks that its content ends."""
    if path.exists() and not path.is_file():
        raise OSError("it is a folder, a pipe or a device")
    if (size := path.stat().st_size) > _MOST_BYTES:
        raise OSError(f"its {size:,} bytes are more than a picture of an accepted size has")
    return path


def load(uri: str, min_side_px: int | None = None, sha256: str | None = None) -> Image.Image:
    """The picture in a file, given by path or file:// URI; see `read` and `decode`.

    Args:
        uri: the file.
        min_side_px: see `decode`.
        sha256: the hash that its content had before; None accepts any content.

    Raises:
        DataError: The file cannot be read.
        ImageError: The file is not a picture, or has changed; the message names it.
    """
    content = read(uri)
    if sha256 is not None and fingerprint.of_bytes(content) != sha256:
        raise ImageError(f"{uri} has changed since it was governed: run `immr govern` again")
    try:
        return decode(content, min_side_px)
    except ImageError as error:
        raise ImageError(f"{uri}: {error}") from error


def placed(uri: str, folder: str) -> str:
    """The URI with a relative path made absolute, starting from this folder or URL; spaces around it are not part."""
    uri = uri.strip()
    if uri.startswith("/") or "://" in uri:
        return uri
    return f"{folder.rstrip('/')}/{uri}" if "://" in folder else str(Path(folder) / uri)


def decode(
    content: bytes,
    min_side_px: int | None = None,
    max_pixels: int = MAX_PIXELS,
    whole: AbstractContextManager[object] | None = None,
) -> Image.Image:
    """An upright 8-bit picture in sRGB: the first frame, on white where it is transparent.

    A file that lacks its end, but none of its lines, is accepted.

    Args:
        content: a JPEG, PNG, WebP, GIF or BMP file.
        min_side_px: the result may be smaller than the picture, with no side below this. That takes less
            memory, and for a JPEG a fraction of the time.
        max_pixels: a picture with more is refused before decoding. The limit is 32 million (WebP: 16) for all
            but sequential JPEGs, which alone need not be in memory as a whole.
        whole: entered while a picture of over 4 million pixels is in memory as a whole; a lock bounds the
            memory of concurrent calls.

    Raises:
        ImageError: empty, of another format, too large, or broken.
    """
    if not content:
        raise ImageError("the image is empty (0 bytes): send the file's content")
    content, profile = png.without_long_texts(content)
    image = _open(content)
    if profile is not None:
        image.info["icc_profile"] = profile
    width, height = image.size
    is_streamed = image.format in _JPEGS and jpeg.is_streamed(content)
    limit = min(max_pixels, _most_pixels(image, is_streamed))
    if width * height > limit:
        raise ImageError(
            f"the image has {width}×{height} pixels, more than the limit of {limit:,}: send a smaller one"
        )
    if max(width, height) > _MOST_PIXELS_A_SIDE:
        raise ImageError(
            f"the image has {width}×{height} pixels, and a side may have {_MOST_PIXELS_A_SIDE:,}: send a smaller one"
        )
    _check_structure(image, content, is_streamed)
    is_whole = width * height > _FEW_PIXELS and not (min_side_px and is_streamed)
    with whole if whole is not None and is_whole else nullcontext():
        try:
            return _finished(*_loaded(image, content, min_side_px), min_side_px)
        except Exception as error:  # Pillow raises nearly anything for a broken file
            raise ImageError(f"the image is broken or truncated ({error}): export it again") from error


def _check_structure(image: Image.Image, content: bytes, is_streamed: bool) -> None:
    """Refuses what Pillow decodes although it is damaged, or takes far too long for."""
    if image.format == "PNG" and (damaged := png.damaged_chunk(content)):
        raise ImageError(
            f"the image is broken (the checksum of its {damaged} chunk is wrong): export it again"
        )
    if image.tile and image.tile[0][0] == "bmp_rle" and len(content) > _MOST_RLE_BYTES:  # type: ignore[attr-defined]
        raise ImageError(
            f"the image is a BMP of {len(content):,} bytes in run lengths, more than the limit of "
            f"{_MOST_RLE_BYTES:,}: save it as PNG"
        )
    if image.format in _JPEGS and not is_streamed and (scans := jpeg.scans(content)) > _MOST_SCANS:
        raise ImageError(
            f"the image is a JPEG of {scans:,} scans, more than the limit of {_MOST_SCANS}: export it again"
        )


def media_type_at(path: Path) -> str | None:
    """The media type of a picture file; None if it is missing or not a picture."""
    try:
        with _regular(path).open("rb") as file:
            return media_type_of(file.read(16))
    except (OSError, ValueError):  # ValueError: a zero byte in the path
        return None


def path_of(uri: str) -> Path:
    """The path in a path or file:// URI.

    Raises:
        DataError: a URI of another scheme.
        ValueError: not a URI.
    """
    if "://" not in uri:
        return Path(existing(uri))
    parts = urlsplit(uri)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        raise DataError(
            f"images are read from paths and file:// URIs, not from {uri}: copy the images to a folder first"
        )
    return Path(existing(unquote(parts.path)))


def existing(path: str) -> str:
    """The path of a file whose name has letters such as "é" in another normal form, as macOS writes them.

    The same path if it exists, and if none exists in another form.
    """
    try:
        if path.isascii() or Path(path).exists():
            return path
        found = Path()
        for part in Path(path).parts:
            forms = (unicodedata.normalize(form, part) for form in ("NFC", "NFD"))
            names = dict.fromkeys((part, *forms))
            found = next(found / name for name in names if (found / name).exists())
        return str(found)
    except (OSError, ValueError, StopIteration):  # ValueError: a zero byte
        return path


def is_file(uri: str) -> bool:
    """Whether a path or file:// URI names a file that is there."""
    try:
        return path_of(uri).is_file()
    except (DataError, OSError, ValueError):
        return False


def _open(content: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(content), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError("the image has far too many pixels: send a smaller one") from error
    except Exception as error:  # a broken header raises all kinds of errors, not only UnidentifiedImageError
        if media_type_of(content) is not None:
            reason = "its header cannot be read" if isinstance(error, UnidentifiedImageError) else error
            raise ImageError(f"the image is broken or truncated ({reason}): export it again") from error
        raise ImageError(
            f"this is {other_kind_of(content)}not a picture in a supported format: send a JPEG, PNG, WebP, GIF or BMP"
        ) from error


def _most_pixels(image: Image.Image, is_streamed: bool) -> int:
    if is_streamed:
        return MAX_PIXELS
    return _MAX_PIXELS_WEBP if image.format == "WEBP" else _MAX_PIXELS_WHOLE


def _loaded(image: Image.Image, content: bytes, min_side_px: int | None) -> tuple[Image.Image, Box | None]:
    """The pixels, and the part of the picture that they cover if that is not all of it."""
    frame = image.tile[0][1] if image.format == "GIF" and image.tile else None  # type: ignore[attr-defined]
    if image.format not in _JPEGS:
        image.load()
        if image.format == "PNG":
            scale_transparency(image, content)
        if image.format == "BMP":
            ignore_empty_alpha(image)
        return image, None if frame == (0, 0, *image.size) else frame
    _draft(image, content, min_side_px)
    if (written := jpeg.without_filling(content)) is not None and not written.endswith(_END_OF_JPEG):
        return _completed(written, min_side_px), None  # zeros are valid code words, so they decode to grey
    try:
        image.load()
    except OSError:
        if content.endswith(_END_OF_JPEG):
            raise
        return _completed(content, min_side_px), None
    if jpeg.may_lack_lines(image):  # the header may declare more than there are, which is no error either
        without_end = content[: content.rfind(_END_OF_JPEG)]
        _completed(jpeg.first_scan(without_end), min_side_px)
        return _completed(without_end, min_side_px), None
    return image, None


def _draft(image: Image.Image, content: bytes, min_side_px: int | None) -> None:
    """Let a JPEG's decoder make it smaller."""
    if min_side_px and not jpeg.is_lossless(content):
        image.draft("RGB", (min_side_px, min_side_px))


def _completed(content: bytes, min_side_px: int | None) -> Image.Image:
    """A JPEG without an end marker, if all of its pixels are there."""
    hashes = set()
    for ending in jpeg.endings(content):
        image = _open(ending)
        _draft(image, ending, min_side_px)
        image.load()
        hashes.add(_hash_of_pixels(image))
    if len(hashes) > 1:
        raise OSError("lines are missing at the end")
    return image


def _hash_of_pixels(image: Image.Image) -> str:
    found = hashlib.sha256()
    for top in range(0, image.height, 64):
        found.update(image.crop((0, top, image.width, min(top + 64, image.height))).tobytes())
    return found.hexdigest()


def _finished(image: Image.Image, frame: Box | None, min_side_px: int | None) -> Image.Image:
    factor = max(1, min(image.size) // min_side_px) if min_side_px else 1
    info = image.info
    rgb = to_srgb(opaque(image, factor, frame), info.get("icc_profile"))
    turned = upright(rgb, orientation_of(info))
    return turned if type(turned) is Image.Image else turned.copy()
