"""What a search asks: read from a form or from JSON, checked, and told to the OpenAPI."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from immr.types import Filters
from serving.http import JSON, MAX_USER_CHARS, ProblemError, media_type

MAX_K = 100
_ONE_OF = "send one of image, item_id and page"
_UNREADABLE = "the body cannot be read: send a valid form, or valid UTF-8 JSON"
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

    photo: bytes | None
    fields: SearchFields

    @property
    def filters(self) -> Filters:
        """Which items may be found."""
        return Filters(self.fields.category or None, self.fields.price_min, self.fields.price_max)


async def read_search(request: Request) -> Asked:
    """Dependency: the search that a request's body asks for.

    Raises:
        ProblemError: 400 where the body cannot be read, 422 where it asks for nothing or for two things.
        RequestValidationError: a field is out of bounds.
    """
    if media_type(request) == JSON:
        values, photo = _of_json(await request.body()), None
    else:
        values, photo = await _of_form(request)
    try:
        fields = SearchFields.model_validate(values)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)
        raise RequestValidationError([{**each, "loc": ("body", *each["loc"])} for each in found]) from error
    given = [name for name in ("item_id", "page") if getattr(fields, name) is not None]
    given += ["image"] if photo is not None else []
    if not given:
        raise RequestValidationError(
            [{"type": "missing", "loc": ("body", "image"), "msg": f"Field required: {_ONE_OF}", "input": {}}]
        )
    if len(given) > 1:
        raise ProblemError(422, f"{' and '.join(given)} came together: {_ONE_OF}")
    return Asked(photo, fields)


def request_body() -> dict[str, Any]:
    """What a search takes, as OpenAPI says it."""
    fields = SearchFields.model_json_schema()
    form = {**fields, "properties": {"image": _PHOTO, **fields["properties"]}}
    by_item = {**fields, "anyOf": [{"required": ["item_id"]}, {"required": ["page"]}]}
    content = {"multipart/form-data": {"schema": form}, JSON: {"schema": by_item}}
    return {"required": True, "content": content}


def _of_json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ProblemError(400, _UNREADABLE) from error


async def _of_form(request: Request) -> tuple[dict[str, Any], bytes | None]:
    try:
        async with request.form() as form:
            photo = form.get("image")
            values = {name: value for name, value in form.items() if value != "" and name != "image"}
            if isinstance(photo, UploadFile):
                return values, await photo.read()
    except HTTPException as error:
        if error.status_code != 400:
            raise
        raise ProblemError(400, _UNREADABLE) from error
    except (ValueError, KeyError, RuntimeError) as error:  # the parser has no error of its own for all
        raise ProblemError(400, _UNREADABLE) from error
    if photo:
        raise RequestValidationError(
            [{"type": "bytes_type", "loc": ("body", "image"), "msg": "send a file", "input": {}}]
        )
    return values, None
