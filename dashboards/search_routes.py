"""The page's search: each version's answer appears as soon as it arrives."""

from __future__ import annotations

import mimetypes
import re
import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, Form, UploadFile
from fastapi.responses import FileResponse, HTMLResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from dashboards.variant_search import PreviewSearch, RunningSearch, VariantSearch
from immr.experiment.definition import Variant

Render = Callable[..., str]
"""Renders a template by name with these values."""

MAX_PHOTO_BYTES = 10 * 1024 * 1024
MAX_SAMPLES = 12
MAX_CATEGORIES = 300
_PICTURES = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True)
class PageSearch:
    """What the routes of the search share.

    Attributes:
        render: Renders a template.
        versions: Asks the versions.
        serving: The variants to ask.
        samples: Photos to offer.
        api_link: The address of the gateway; without one, the API call names the first version's.
    """

    render: Render
    versions: VariantSearch
    serving: Callable[[], Sequence[Variant]]
    samples: Sequence[Path]
    api_link: str

    async def start(self, search: PreviewSearch) -> RunningSearch:
        """Ask the variants that serve now."""
        return self.versions.start(await run_in_threadpool(self.serving), search)

    async def shown(self, running: RunningSearch) -> HTMLResponse:
        """The answers so far."""
        answers = running.answers  # once: another may arrive before the template is rendered
        answered = [answer for answer in answers if not answer.problem and not answer.waiting]
        failed = answers and all(answer.problem and not answer.refused for answer in answers)
        variants = await run_in_threadpool(self.serving)
        api = self.api_link.rstrip("/") or (variants[0].url.rstrip("/") if variants else "")
        call = api_call(api, running.search)
        arrived = sum(not answer.waiting for answer in answers)
        values = {"answers": answers, "answered": answered, "arrived": arrived, "search": running}
        values |= {"api": api, "call": call}
        return HTMLResponse(self.render("answers.html", **values), 502 if failed else 200)

    def sentence(self, text: str, status: int) -> HTMLResponse:
        """A refusal."""
        return HTMLResponse(self.render("refused.html", sentence=text), status)

    async def photo(self, image: UploadFile | None, sample: int | None) -> tuple[bytes, str]:
        """The uploaded photo or the sample, and its media type; empty without either.

        An upload that is too large is read up to one byte beyond `MAX_PHOTO_BYTES`.

        Raises:
            HTTPException: There is no such sample.
        """
        content = await image.read(MAX_PHOTO_BYTES + 1) if image else b""
        if content or sample is None:
            return content, (image.content_type if image else None) or "application/octet-stream"
        path = sample_of(self.samples, sample)
        return await run_in_threadpool(path.read_bytes), _media_type(path)


def add_search(app: FastAPI, page: PageSearch) -> None:
    """The routes of the search."""
    _add_photo_parts(app, page)

    @app.post("/search", response_class=HTMLResponse)
    async def search(
        image: UploadFile | None = None,
        sample: Annotated[int | None, Form()] = None,
        item_id: Annotated[str, Form(max_length=500)] = "",
        text: Annotated[str, Form(max_length=500)] = "",
        k: Annotated[int, Form(ge=1, le=50)] = 5,
        category: Annotated[str, Form(max_length=200)] = "",
        box: Annotated[str, Form(max_length=200)] = "",
        filters: Annotated[str, Form(max_length=500)] = "",
        group_by: Annotated[str, Form(max_length=100)] = "",
    ) -> HTMLResponse:
        content, media_type = await page.photo(image, None if item_id else sample)
        if len(content) > MAX_PHOTO_BYTES:
            return page.sentence("That photo is larger than 10 MB. Take a smaller one.", 413)
        if not (content or item_id or text.strip()):
            return page.sentence("Choose a photo or type words first.", 422)
        item, part = ("", box.strip()) if content else (item_id, "")
        wanted = filters_in(filters)
        running = await page.start(
            PreviewSearch(
                k, content, media_type, item, text.strip(), category.strip(), part, wanted, group_by.strip()
            )
        )
        await running.more_than(0)
        return await page.shown(running)

    @app.get("/searches/{search_id}", response_class=HTMLResponse)
    async def search_so_far(search_id: str, seen: int = 0) -> HTMLResponse:
        running = page.versions.running(search_id)
        if running is None:
            return page.sentence("This search is too old to continue. Search again.", 404)
        await running.more_than(seen)
        return await page.shown(running)

    @app.get("/samples/{number}")
    def sample_photo(number: int) -> Response:
        path = sample_of(page.samples, number)
        return FileResponse(
            path, media_type=_media_type(path), headers={"cache-control": "private, max-age=300"}
        )


def _add_photo_parts(app: FastAPI, page: PageSearch) -> None:
    @app.post("/photo-parts", response_class=HTMLResponse)
    async def photo_parts(
        image: UploadFile | None = None, sample: Annotated[int | None, Form()] = None
    ) -> HTMLResponse:
        content, media_type = await page.photo(image, sample)
        if not content or len(content) > MAX_PHOTO_BYTES:  # the search explains what is wrong
            return HTMLResponse("")
        variants = await run_in_threadpool(page.serving)
        parts = await page.versions.photo_parts(variants, content, media_type)
        return HTMLResponse(page.render("photo_parts.html", parts=parts))


def filters_in(line: str) -> list[str]:
    """The filters in a line, separated by semicolons; `\\;` is a semicolon within a value."""
    parts = (each.replace(r"\;", ";").strip() for each in re.split(r"(?<!\\);", line))
    return [each for each in parts if each]


def api_call(api: str, search: PreviewSearch) -> str:
    """The same search as a command. The header keeps it out of the test, as the page does.

    `--form-string`, because with `-F` curl would read and send a file for a text like `@notes`.
    """
    words = [f"curl -s {api}/v1/search", "-H 'x-immr-variant: preview'"]
    if search.content:
        words.append("-F image=@photo.jpg")
    fields = (f"{name}={value}" for name, value in search.fields)
    return " \\\n  ".join([*words, *(f"--form-string {shlex.quote(field)}" for field in fields)])


def suggested_categories(categories: Mapping[str, str]) -> list[str]:
    """Category paths and what is above them, those with the most items first.

    Args:
        categories: Each item's category path, like `Packages/Milk`.
    """
    counted: Counter[str] = Counter()
    for path in categories.values():
        levels = path.split("/")
        counted.update("/".join(levels[:depth]) for depth in range(1, len(levels) + 1))
    return sorted(path for path, _ in counted.most_common(MAX_CATEGORIES))


def samples_in(folder: Path | None) -> Sequence[Path]:
    """Up to a dozen photos, spread evenly over the folder and its subfolders."""
    if folder is None or not folder.is_dir():
        return []
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _PICTURES and path.is_file())
    if len(found) <= MAX_SAMPLES:
        return found
    return [found[number * len(found) // MAX_SAMPLES] for number in range(MAX_SAMPLES)]


def sample_of(samples: Sequence[Path], number: int) -> Path:
    """One of the sample photos.

    Raises:
        HTTPException: There is no such one.
    """
    if not 0 <= number < len(samples):
        raise HTTPException(404, "there is no such sample photo")
    return samples[number]


def _media_type(path: Path) -> str:
    return mimetypes.guess_type(path.name)[0] or "image/jpeg"
