"""What a search asks: read from a form or from JSON, checked, and told to the OpenAPI."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from immr.types import Filters
from serving.wire.application import JSON
from serving.wire.forms import PHOTO, SearchForm
from serving.wire.problems import ProblemError
from serving.wire.schemas import MAX_USER_CHARS

MAX_K = 100
_ONE_OF = "send one of image, item_id and page"
_PHOTO = {
    "type": "string",
    "format": "binary",
    "description": "The photo: a JPEG, PNG, WebP, GIF or BMP, up to 10 MB.",
}


class SearchFields(BaseModel):
    """A search beside its photo."""

    model_config = ConfigDict(allow_inf_nan=False)

    item_id: Annotated[
        str | None, Field(min_length=1, max_length=1000, description="Find more like this item.")
    ] = None
    page: Annotated[
        str | None,
        Field(min_length=1, max_length=20_000, description="The `next_page` of an answer, as it came."),
    ] = None
    k: Annotated[int, Field(ge=1, le=MAX_K, description="How many hits to return.")] = 10
    user_id: Annotated[
        str | None,
        Field(max_length=MAX_USER_CHARS, description="Who asks; the same user always gets the same variant."),
    ] = None
    category: Annotated[
        str | None,
        Field(max_length=500, description="Keep items of this category path and what is below it."),
    ] = None
    price_min: Annotated[float | None, Field(ge=0, description="Keep items of at least this price.")] = None
    price_max: Annotated[float | None, Field(ge=0, description="Keep items of at most this price.")] = None


@dataclass(frozen=True)
class Asked:
    """One search: exactly one of photo, item_id and page is there."""

    photo_view: memoryview | None
    fields: SearchFields

    @property
    def photo(self) -> bytes | None:
        """A copy of its own."""
        return None if self.photo_view is None else bytes(self.photo_view)

    @property
    def filters(self) -> Filters:
        """Which items may be found."""
        return Filters(self.fields.category or None, self.fields.price_min, self.fields.price_max)


async def read_search(request: Request) -> Asked:
    """The search that a request's body asks for.

    Raises:
        ProblemError: 415 for what is neither a form nor JSON, 400 where the body cannot be read, 422 where it
            asks for two things.
        RequestValidationError: a field is out of bounds, or it asks for nothing.
    """
    return asked_by(SearchForm.read(await request.body(), request.headers))


def asked_by(form: SearchForm) -> Asked:
    """The search that a form asks for; an empty field is an absent one.

    Raises:
        ProblemError: 422 where it asks for two things.
        RequestValidationError: a field is out of bounds, or it asks for nothing.
    """
    values = form.values
    if isinstance(values, dict):
        values = {name: value for name, value in values.items() if value != ""}
    try:
        fields = SearchFields.model_validate(values)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)
        raise RequestValidationError([{**each, "loc": ("body", *each["loc"])} for each in found]) from error
    given = [name for name in ("item_id", "page") if getattr(fields, name) is not None]
    if form.photo is not None and (form.photo or not given):
        given.append(PHOTO)
    if not given:
        raise RequestValidationError(
            [{"type": "missing", "loc": ("body", PHOTO), "msg": f"Field required: {_ONE_OF}", "input": {}}]
        )
    if len(given) > 1:
        raise ProblemError(422, f"{' and '.join(given)} came together: {_ONE_OF}")
    return Asked(form.photo if PHOTO in given else None, fields)


def request_body() -> dict[str, Any]:
    """What a search takes, as OpenAPI says it."""
    fields = SearchFields.model_json_schema()
    form = {**fields, "properties": {PHOTO: _PHOTO, **fields["properties"]}}
    by_item = {**fields, "anyOf": [{"required": ["item_id"]}, {"required": ["page"]}]}
    content = {"multipart/form-data": {"schema": form}, JSON: {"schema": by_item}}
    return {"required": True, "content": content}
