"""Validates a search: which photo, item or page, and which filters."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from immr.types import Filters
from serving.wire.application import JSON
from serving.wire.forms import PHOTO, SearchForm
from serving.wire.problems import FieldProblem, ProblemError, field_problems, invalid_fields
from serving.wire.schemas import MAX_USER_CHARS

MAX_K = 100
_ONE_OF = "send one of image, item_id and page"
_PHOTO = {
    "type": "string",
    "format": "binary",
    "description": "The photo: a JPEG, PNG, WebP, GIF or BMP, up to 10 MB.",
}
_SNIFFED_BYTES = 512


class SearchFields(BaseModel):
    """The fields of a search, without its photo."""

    model_config = ConfigDict(allow_inf_nan=False, extra="forbid")

    item_id: Annotated[
        str | None, Field(min_length=1, max_length=1000, description="Find items like this one.")
    ] = None
    page: Annotated[
        str | None,
        Field(min_length=1, max_length=20_000, description="The `next_page` of an answer, unchanged."),
    ] = None
    k: Annotated[int, Field(ge=1, le=MAX_K, description="How many hits to return.")] = 10
    user_id: Annotated[
        str | None,
        Field(max_length=MAX_USER_CHARS, description="The same user always gets the same variant."),
    ] = None
    category: Annotated[
        str | None,
        Field(max_length=500, description="Keep items of this category path and its subcategories."),
    ] = None
    price_min: Annotated[float | None, Field(ge=0, description="Keep items of at least this price.")] = None
    price_max: Annotated[float | None, Field(ge=0, description="Keep items of at most this price.")] = None


_FIELD_NAMES = ", ".join((PHOTO, *SearchFields.model_fields))


@dataclass(frozen=True)
class SearchRequest:
    """A valid search, which has exactly one of photo, item_id and page."""

    photo_view: memoryview | None
    fields: SearchFields

    @property
    def photo(self) -> bytes | None:
        """A copy of the photo."""
        return None if self.photo_view is None else bytes(self.photo_view)

    @property
    def filters(self) -> Filters:
        """Which items may be found."""
        return Filters(self.fields.category or None, self.fields.price_min, self.fields.price_max)


async def read_search(request: Request) -> SearchRequest:
    """Reads and validates a search.

    Raises:
        ProblemError: 415 for an unknown content type, 400 for a malformed body, 422 for invalid fields.
    """
    return validate(SearchForm.read(await request.body(), request.headers))


def validate(form: SearchForm) -> SearchRequest:
    """Validates a search. An empty field counts as absent.

    Raises:
        ProblemError: 422 for an invalid or unknown field, or unless there is one of photo, item and page.
    """
    fields = _fields(form.values)
    given = [name for name in ("item_id", "page") if getattr(fields, name) is not None]
    if form.photo is not None and (form.photo or not given):
        given.append(PHOTO)
    if not given:
        raise invalid_fields([FieldProblem(field=PHOTO, message=f"Field required: {_ONE_OF}")])
    if len(given) > 1:
        raise ProblemError(422, f"The search has both {' and '.join(given)}: {_ONE_OF}.")
    photo = form.photo if PHOTO in given else None
    if photo is not None and _is_text(photo):
        raise ProblemError(
            422,
            "The image is text, not a picture: send a JPEG, PNG, WebP, GIF or BMP file, "
            "with curl as `-F image=@photo.jpg`.",
        )
    return SearchRequest(photo, fields)


def _fields(values: Any) -> SearchFields:
    try:
        if isinstance(values, dict):
            known = SearchFields.model_fields
            values = {name: value for name, value in values.items() if value != "" or name not in known}
        return SearchFields.model_validate(values)
    except ValidationError as error:
        unknown = {"extra_forbidden": f"Unknown field: send only {_FIELD_NAMES}"}
        raise invalid_fields(field_problems(error, unknown)) from error


def _is_text(photo: memoryview) -> bool:
    """Whether a file begins like text. Every picture format we read has bytes that text does not have."""
    begin = bytes(photo[:_SNIFFED_BYTES])
    try:
        codecs.getincrementaldecoder("utf-8")().decode(begin)
    except UnicodeDecodeError:
        return False
    return bool(begin) and b"\0" not in begin


def request_body() -> dict[str, Any]:
    """The request body of a search, for the OpenAPI."""
    fields = SearchFields.model_json_schema()
    form = {**fields, "properties": {PHOTO: _PHOTO, **fields["properties"]}}
    by_item = {**fields, "anyOf": [{"required": ["item_id"]}, {"required": ["page"]}]}
    content = {"multipart/form-data": {"schema": form}, JSON: {"schema": by_item}}
    return {"required": True, "content": content}
