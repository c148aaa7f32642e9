"""Catalogue pictures are served with the media type of their content, whatever their name."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.responses import FileResponse

from serving.bento.pictures import picture_response
from serving.wire.problems import ProblemError
from tests.support import tiny_version


@pytest.mark.parametrize(
    ("name", "image_format", "media_type"),
    [
        ("noextension", "JPEG", "image/jpeg"),
        ("a.webp", "WEBP", "image/webp"),
        ("a.png", "PNG", "image/png"),
        ("a.gif", "GIF", "image/gif"),
        ("a.bmp", "BMP", "image/bmp"),
        ("wrong.png", "JPEG", "image/jpeg"),
        ("notes.txt", "PNG", "image/png"),
    ],
)
@pytest.mark.parametrize("scheme", ["", "file://"])
def test_the_media_type_follows_the_content(
    name: str, image_format: str, media_type: str, scheme: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(tiny_version.photo("red", image_format))
    response = picture_response("red", f"{scheme}{tmp_path / name}")
    assert isinstance(response, FileResponse)
    assert response.headers["content-type"] == media_type
    assert response.headers["cache-control"] == "public, max-age=3600"


@pytest.mark.parametrize("content", [b"", b"text", b"<svg></svg>", None])
def test_what_is_not_a_picture_is_a_404(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(ProblemError, match="The catalogue has no picture of 'red'") as raised:
        picture_response("red", str(tmp_path / "a.jpg"))
    assert raised.value.problem.status == 404


def test_a_picture_on_the_web_is_a_redirect() -> None:
    assert picture_response("red", "https://shop.example/red.jpg").status_code == 307
