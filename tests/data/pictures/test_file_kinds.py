import pytest
from PIL import Image

from immr.data.pictures.file_kinds import media_type_of
from tests.support.odd_pictures import encoded


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_the_media_type_is_that_of_the_content(format: str) -> None:
    content = encoded(Image.new("RGB", (60, 40)), format)
    assert media_type_of(content) == media_type_of(content[:16]) == f"image/{format.lower()}"


@pytest.mark.parametrize("content", [b"", b"<svg>", b"RIFF1234WAVE", b"\xff\xd8", b"II*\0"])
def test_other_content_has_no_media_type(content: bytes) -> None:
    assert media_type_of(content) is None
