"""Serves an item's catalogue picture, with the media type of its content."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from fastapi import Response
from fastapi.responses import FileResponse, RedirectResponse

from immr.data.pictures.picture_files import media_type_at
from serving.wire.problems import ProblemError

_HEADERS = {"Cache-Control": "public, max-age=3600", "Accept-Ranges": "none"}


def picture_response(item_id: str, image: str) -> Response:
    """The picture at `image`, a path or a URI of the catalogue; an HTTP address is redirected to.

    Raises:
        ProblemError: 404 if the file is missing or not a picture.
    """
    parts = urlsplit(image)
    if parts.scheme in ("http", "https"):
        return RedirectResponse(image)
    path = Path(unquote(parts.path)) if parts.scheme == "file" else Path(image)
    media_type = media_type_at(path)
    if media_type is None:
        raise ProblemError(
            404, f"The catalogue has no picture of {item_id[:100]!r}. Check the image column of its row."
        )
    return FileResponse(path, media_type=media_type, headers=_HEADERS)
