"""`POST /v1/regions`: which parts of a photo may show one thing each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, Field

from immr.types import Region
from serving.wire.application import JSON
from serving.wire.forms import PHOTO, SearchForm
from serving.wire.problems import FieldProblem, invalid_fields, problem_responses
from serving.wire.search.search_request import ENCODED_PHOTO, PHOTO_SCHEMA, check_photo

PATH = "/v1/regions"
SUMMARY = "Propose the parts of a photo to search for"
RESPONSES = problem_responses(400, 404, 408, 413, 415, 422, 429, 503)
_DIGITS = 4


class RegionBody(BaseModel):
    """A part of the photo: send `box` with a search."""

    box: Annotated[
        str, Field(description="x,y,width,height, each from 0 to 1, as the field `box` of a search.")
    ]
    score: Annotated[
        float, Field(ge=0, le=1, description="How much it stands out; not how likely it finds an item.")
    ]


class RegionsBody(BaseModel):
    """Up to five parts of the photo that hardly overlap, best first; none if nothing stands out."""

    regions: list[RegionBody]
    took_ms: float


def photo_of(form: SearchForm) -> memoryview:
    """The photo of a request.

    Raises:
        ProblemError: 422 unless it is one photo and nothing else.
    """
    if isinstance(form.values, Mapping) and form.values:
        name = str(next(iter(form.values)))[:100]
        raise invalid_fields([FieldProblem(field=name, message="Unknown field: send only image")])
    if len(form.photos) != 1:
        message = f"Send exactly one photo. The request has {len(form.photos)}"
        raise invalid_fields([FieldProblem(field=PHOTO, message=message)])
    [photo] = form.photos
    check_photo(photo)
    return photo


def box_text(region: Region) -> str:
    """The value of the field `box` of a search; rounded down, so that it stays within the photo."""
    values = (region.x, region.y, region.width, region.height)
    return ",".join(f"{math.floor(value * 10**_DIGITS) / 10**_DIGITS:g}" for value in values)


def request_body() -> dict[str, Any]:
    """The request body, for the OpenAPI."""

    def an_object(photo: dict[str, Any]) -> dict[str, Any]:
        return {
            "schema": {
                "type": "object",
                "properties": {PHOTO: photo},
                "required": [PHOTO],
                "additionalProperties": False,
            }
        }

    content = {
        "multipart/form-data": an_object(PHOTO_SCHEMA),
        JSON: an_object(ENCODED_PHOTO),
        "image/*": {"schema": PHOTO_SCHEMA},
    }
    return {"required": True, "content": content}
