import gzip
import io
import os
import struct
import subprocess
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from immr.data.pictures.picture_files import decode, media_type_at, placed, read
from immr.errors import DataError, ImageError


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, format, **options)
    return content.getvalue()


def half_and_half(mode: str = "RGB") -> Image.Image:
    """Red left, blue right, 60×40."""
    image = Image.new("RGB", (60, 40), (220, 20, 20))
    image.paste((20, 20, 220), (30, 0, 60, 40))
    return image.convert(mode)


def left_is_red(image: Image.Image) -> bool:
    red, _, blue = image.getpixel((5, 20))
    return red > 150 and blue < 100


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_every_format_becomes_rgb(format: str) -> None:
    image = decode(encoded(half_and_half(), format))
    assert (image.mode, image.size) == ("RGB", (60, 40))
    assert left_is_red(image)


@pytest.mark.parametrize("mode", ["CMYK", "L"])
def test_other_jpeg_modes_become_rgb(mode: str) -> None:
    assert decode(encoded(half_and_half(mode), "JPEG")).mode == "RGB"


def test_exif_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned right by 90°
    image = decode(encoded(half_and_half(), "JPEG", exif=exif))
    assert image.size == (40, 60)
    red, _, _ = image.getpixel((20, 5))
    assert red > 150


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_becomes_white(mode: str) -> None:
    assert decode(encoded(Image.new(mode, (8, 8)), "PNG")).getpixel((4, 4)) == (255, 255, 255)


def test_transparent_palette_becomes_white() -> None:
    image = Image.new("P", (8, 8), 0)
    image.putpalette([10, 200, 10] * 256)
    assert decode(encoded(image, "PNG", transparency=0)).getpixel((4, 4)) == (255, 255, 255)
    assert decode(encoded(image, "PNG")).getpixel((4, 4)) == (10, 200, 10)


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    deep = Image.fromarray(np.full((8, 8), 32768, dtype=np.uint16))
    assert decode(encoded(deep, "PNG")).getpixel((4, 4)) == (127, 127, 127)


@pytest.mark.parametrize("format", ["GIF", "WEBP"])
def test_first_frame_of_an_animation(format: str) -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    content = encoded(frames[0], format, save_all=True, append_images=frames[1:])
    red, _, blue = decode(content).getpixel((10, 10))
    assert red > 200 and blue < 50


def test_a_jpeg_may_be_decoded_smaller_but_never_below_the_requested_side() -> None:
    content = encoded(half_and_half().resize((1200, 800)), "JPEG")
    image = decode(content, min_side_px=150)
    assert 150 <= min(image.size) < 800
    assert decode(content).size == (1200, 800)


@pytest.mark.parametrize(
    ("format", "mode"),
    [
        *(("PNG", mode) for mode in ("RGB", "RGBA", "LA", "L", "P", "1", "I;16")),
        ("WEBP", "RGBA"),
        ("GIF", "P"),
        ("BMP", "RGB"),
        ("JPEG", "CMYK"),
    ],
)
def test_a_downscaled_picture_looks_the_same(format: str, mode: str) -> None:
    if mode == "I;16":
        picture = Image.fromarray(np.linspace(0, 65535, 600 * 400, dtype=np.uint16).reshape(400, 600))
    else:
        picture = half_and_half().resize((600, 400), Image.Resampling.NEAREST).convert(mode)
    content = encoded(picture, format)
    whole, smaller = decode(content), decode(content, min_side_px=50)
    assert 50 <= min(smaller.size) < 100 < min(whole.size)
    values = [np.asarray(each.resize((60, 40)), dtype=np.float32) for each in (whole, smaller)]
    assert np.abs(values[0] - values[1]).mean() < 3


def test_transparency_survives_downscaling() -> None:
    keyed = encoded(Image.new("RGB", (400, 400), (10, 200, 10)), "PNG", transparency=(10, 200, 10))
    clear = encoded(Image.new("RGBA", (400, 400)), "PNG")
    for content in (keyed, clear):
        assert decode(content, min_side_px=50).getpixel((20, 20)) == (255, 255, 255)


def test_a_rotated_photo_is_rotated_when_downscaled() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for format in ("JPEG", "PNG"):
        content = encoded(half_and_half().resize((600, 400)), format, exif=exif)
        image = decode(content, min_side_px=50)
        assert image.width < image.height
        red, _, _ = image.getpixel((image.width // 2, 5))
        assert red > 150


MEMORY_OF_DECODING = """
import sys
from pathlib import Path
import numpy
from immr.data.pictures.picture_files import decode
def most_kb():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
content, before_kb = Path(sys.argv[1]).read_bytes(), most_kb()
assert min(decode(content, 448).size) >= 448
print((most_kb() - before_kb) / 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="Linux tells a process's memory")
@pytest.mark.parametrize(
    ("format", "mode", "size", "options"),
    [
        ("PNG", "P", (8000, 4000), {"transparency": 0}),
        ("PNG", "RGBA", (8000, 4000), {"compress_level": 1}),
        ("WEBP", "RGBA", (4000, 4000), {"quality": 10, "method": 0}),
        ("JPEG", "RGB", (8000, 4000), {"progressive": True, "subsampling": 0}),
        ("JPEG", "RGB", (8000, 8000), {}),
    ],
)
def test_the_largest_photos_need_at_most_300_mb(  # type: ignore[no-untyped-def]
    format, mode, size, options, tmp_path
) -> None:
    """In a separate process, because Python does not count Pillow's memory."""
    photo = tmp_path / "photo"
    photo.write_bytes(encoded(Image.new(mode, size), format, **options))
    command = [sys.executable, "-c", MEMORY_OF_DECODING, str(photo)]
    measured = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(measured.stdout) < 300


def test_pictures_decoded_in_full_have_a_lower_limit() -> None:
    with pytest.raises(ImageError, match="8000×4001 pixels, more than the limit of 32,000,000"):
        decode(encoded(Image.new("1", (8000, 4001)), "PNG"))
    with pytest.raises(ImageError, match="limit of 16,000,000"):
        decode(encoded(Image.new("RGB", (4001, 4000)), "WEBP", quality=10, method=0))


def test_a_strip_of_millions_of_lines_is_refused() -> None:
    """62 KB of PNG took 650 MB."""
    with pytest.raises(ImageError, match="1×70000 pixels, and a side may have 65,535"):
        decode(encoded(Image.new("L", (1, 70_000)), "PNG"))
    assert decode(encoded(Image.new("L", (1, 65_535)), "PNG")).size == (1, 65_535)


def test_large_pictures_decoded_in_full_are_decoded_one_at_a_time() -> None:
    lock, large = threading.Lock(), Image.new("L", (2001, 2000))
    with ThreadPoolExecutor() as pool:
        with lock:
            waiting = [
                pool.submit(decode, encoded(large, format, **options), 100, whole=lock)
                for format, options in (("PNG", {}), ("JPEG", {"progressive": True}))
            ]
            assert min(decode(encoded(large, "JPEG"), 100, whole=lock).size) == 125
            assert decode(encoded(half_and_half(), "PNG"), whole=lock).size == (60, 40)
            assert not any(each.done() for each in waiting)
        assert all(min(each.result().size) >= 100 for each in waiting)


def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    header = b"IHDR" + struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    content = b"IDAT" + zlib.compress(bytes(1000))
    bomb = b"\x89PNG\r\n\x1a\n"
    for chunk in (header, content):
        bomb += struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    with pytest.raises(ImageError, match="too many pixels"):
        decode(bomb)
    with pytest.raises(ImageError, match="60×40 pixels, more than the limit of 100"):
        decode(encoded(half_and_half(), "PNG"), max_pixels=100)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"hello, this is text", "not a picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture"),
        (encoded(half_and_half(), "JPEG")[:300], "picture|broken"),
        (encoded(half_and_half().resize((300, 300)), "PNG")[:200], "broken"),
        (encoded(half_and_half(), "TIFF"), "not a picture"),
    ],
)
def test_content_that_is_not_a_picture_is_refused_with_the_reason(content: bytes, says: str) -> None:
    with pytest.raises(ImageError, match=says):
        decode(content)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\0\0\0\x18ftypheic" + bytes(40), "a HEIC photo"),
        (b"\0\0\0\x1cftypmif1" + bytes(40), "a HEIC photo"),
        (b"\0\0\0\x20ftypavif" + bytes(40), "an AVIF picture"),
        (b"\0\0\0\x20ftypisom" + bytes(40), "a video"),
        (b"\xff\x0a" + bytes(40), "a JPEG XL picture"),
        (encoded(Image.new("RGB", (8, 8)), "TIFF"), "a TIFF picture, or a camera's raw photo"),
        (encoded(Image.new("RGB", (8, 8)), "JPEG2000"), "a JPEG 2000 picture"),
        (b'<?xml version="1.0"?>\n<!-- a -->\n<svg xmlns="x"/>', "an SVG drawing"),
        (gzip.compress(b"JPEG", mtime=0), "packed by gzip"),
    ],
)
def test_other_kinds_of_pictures_are_named(content: bytes, kind: str) -> None:
    with pytest.raises(ImageError, match=f"this is {kind}, not a picture in a supported format: send a JPEG"):
        decode(content)


def test_a_message_about_a_broken_header_is_the_same_each_time() -> None:
    """Pillow's names the object that it read, with its address in memory."""
    with pytest.raises(ImageError, match=r"truncated \(its header cannot be read\)"):
        decode(b"\xff\xd8\xff" + bytes(40))


def test_random_damage_raises_only_image_errors() -> None:
    rng = np.random.default_rng(0)
    for format in ("JPEG", "PNG", "WEBP", "GIF", "BMP"):
        whole = np.frombuffer(encoded(half_and_half(), format), dtype=np.uint8)
        for _ in range(40):
            damaged = whole.copy()
            damaged[rng.integers(0, len(whole), 12)] = rng.integers(0, 256, 12)
            with suppress(ImageError):
                assert decode(damaged.tobytes()).mode == "RGB"


def test_reads_paths_and_file_uris(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "a photo.jpg"
    path.write_bytes(b"content")
    assert read(str(path)) == read(path.as_uri()) == b"content"


def test_other_uris_and_missing_files_are_errors_with_a_remedy(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DataError, match=r"s3://bucket/a\.jpg: copy"):
        read("s3://bucket/a.jpg")
    with pytest.raises(DataError, match="check the path"):
        read(str(tmp_path / "gone.jpg"))


def test_a_picture_without_a_suffix_has_the_type_of_its_content(tmp_path: Path) -> None:
    (tmp_path / "picture").write_bytes(encoded(half_and_half(), "WEBP"))
    assert media_type_at(tmp_path / "picture") == "image/webp"
    assert media_type_at(tmp_path / "gone.jpg") is None


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_a_picture_whose_beginning_is_broken_is_called_broken(format: str) -> None:
    head = encoded(half_and_half(), format)[:20]
    with pytest.raises(ImageError, match=r"is broken or truncated .*: export it again"):
        decode(head)


def test_a_message_does_not_quote_a_whole_picture(tmp_path: Path) -> None:
    with pytest.raises(DataError) as raised:
        read(placed("data:image/png;base64," + "A" * 1_000_000, str(tmp_path)))
    assert len(str(raised.value)) < 600


def test_a_pipe_or_a_device_is_not_read(tmp_path: Path) -> None:
    """They have no end, or never begin."""
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)
    for place in (pipe, Path("/dev/zero"), tmp_path):
        with pytest.raises(DataError, match="it is a folder, a pipe or a device"):
            read(str(place))
        assert media_type_at(place) is None


def test_a_file_larger_than_any_picture_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "huge.jpg").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(
        DataError, match="1,099,511,627,776 bytes are more than a picture of an accepted size has"
    ):
        read(str(tmp_path / "huge.jpg"))


def test_a_long_bmp_in_run_lengths_is_refused_before_it_takes_seconds() -> None:
    def bmp(runs: bytes) -> bytes:
        palette = b"\0\0\0\0\xff\xff\xff\0" * 128
        size, start = 54 + len(palette) + len(runs), 54 + len(palette)
        info = struct.pack("<IiiHHIIiiII", 40, 200, 100, 1, 8, 1, len(runs), 0, 0, 256, 0)
        return b"BM" + struct.pack("<IHHI", size, 0, 0, start) + info + palette + runs

    white = bmp(b"\xc8\x01\0\0" * 100 + b"\0\1")
    assert decode(white).getcolors() == [(20_000, (255, 255, 255))]
    with pytest.raises(ImageError, match="in run lengths"):
        decode(bmp(b"\x01\x05" * 2**21))
