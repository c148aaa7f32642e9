"""The fields of a search, without its photos."""

from __future__ import annotations

import unicodedata
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from immr.search.grouping import DEFAULT_MEMBERS, MOST_MEMBERS
from immr.types import MISSING_VALUES
from serving.wire.forms import PHOTO
from serving.wire.problems import field_problems, invalid_fields
from serving.wire.schemas import MAX_USER_CHARS, plain_number
from serving.wire.search.filters import (
    FILTER_PATTERN,
    MAX_FILTERS,
    MAX_VALUE_CHARS,
    NAME_PATTERN,
    as_list,
    names_of,
)
from serving.wire.search.search_context import Context

MAX_K = 100
_MAX_TEXT_CHARS = 500
# Python and browsers write small numbers as 1e-07
_NUMBER = r"[0-9]*\.?[0-9]+([eE][-+]?[0-9]{1,3})?"
_BOX_PATTERN = rf"^{_NUMBER}(,{_NUMBER}){{3}}$"
_Names = Annotated[list[Annotated[str, Field(pattern=NAME_PATTERN)]], Field(max_length=10)]


def _one_user(user_id: str | None) -> str | None:
    """Refuses a text that stands for a missing id: all visitors without one would be one user."""
    if user_id is not None and user_id.strip() in MISSING_VALUES:
        raise ValueError(f"{user_id!r} stands for a missing id. Leave the field out for visitors without one")
    return user_id


class SearchFields(BaseModel):
    """The fields of a search, without its photo."""

    model_config = ConfigDict(allow_inf_nan=False, extra="forbid")

    item_id: Annotated[
        str | None, Field(min_length=1, max_length=1000, description="Find items like this one.")
    ] = None
    image_url: Annotated[
        str | None,
        Field(
            pattern=r"^https?://[^\s]+$",
            max_length=2000,
            description="Where the photo is, for servers that allow it (`IMMR_IMAGE_URLS`). A public address.",
        ),
    ] = None
    page: Annotated[
        str | None,
        Field(min_length=1, max_length=200_000, description="The `next_page` of an answer, unchanged."),
    ] = None
    k: Annotated[
        int, Field(ge=1, le=MAX_K, description="How many hits to return."), BeforeValidator(plain_number)
    ] = 10
    user_id: Annotated[
        str | None,
        Field(max_length=MAX_USER_CHARS, description="The same user always gets the same variant."),
        AfterValidator(_one_user),
    ] = None
    category: Annotated[
        str | None,
        Field(max_length=500, description="Keep items of this category path and its subcategories."),
    ] = None
    price_min: Annotated[
        float | None,
        Field(ge=0, description="Keep items of at least this price."),
        BeforeValidator(plain_number),
    ] = None
    price_max: Annotated[
        float | None,
        Field(ge=0, description="Keep items of at most this price."),
        BeforeValidator(plain_number),
    ] = None
    filter: Annotated[
        list[Annotated[str, Field(pattern=FILTER_PATTERN)]],
        BeforeValidator(as_list),
        Field(
            max_length=MAX_FILTERS,
            description="Keep items by an attribute: `brand:Nike`, `-brand:Nike` (all others), `size:40..44`. "
            "Several on one attribute are alternatives.",
        ),
    ] = []
    facets: Annotated[
        _Names, BeforeValidator(names_of), Field(description="Count the values of these attributes.")
    ] = []
    group_by: Annotated[
        str | None,
        Field(pattern=NAME_PATTERN, description="Show each value of this attribute once, with its items."),
    ] = None
    members: Annotated[
        int,
        Field(ge=0, le=MOST_MEMBERS, description="With `group_by`: how many other items of each group."),
        BeforeValidator(plain_number),
    ] = DEFAULT_MEMBERS
    text: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=_MAX_TEXT_CHARS,
            description="Words of the title, the category or keyword attributes, alone or beside an image or item.",
        ),
    ] = None
    box: Annotated[
        str | None,
        Field(
            pattern=_BOX_PATTERN,
            description="The part of the photo to search for: x,y,width,height, each from 0 to 1.",
        ),
    ] = None
    context: Context = None


FIELD_NAMES = (PHOTO, *SearchFields.model_fields)
_ATTRIBUTE = "Send the name of an attribute: letters, digits and _, such as brand"
_FORMS = {
    "filter": "Send attribute:value, such as brand:Nike, -brand:Nike or price:1..4, with a value of at most "
    f"{MAX_VALUE_CHARS} characters",
    "facets": _ATTRIBUTE,
    "group_by": _ATTRIBUTE,
    "box": "Send x,y,width,height, each from 0 to 1, such as 0.2,0.2,0.6,0.6",
    "image_url": "Send an address that begins with http:// or https:// and has no spaces",
}
"""What a text that does not match its field's pattern should look like."""


def read_fields(values: Any) -> SearchFields:
    """Validates the fields; a blank one counts as absent, and so does null.

    Raises:
        ProblemError: 422 for an invalid or unknown field.
    """
    try:
        if isinstance(values, dict):
            known = SearchFields.model_fields
            values = {
                name: value
                for name, value in values.items()
                if name not in known or not _is_blank(name, value)
            }
        return SearchFields.model_validate(values)
    except ValidationError as error:
        raise invalid_fields(field_problems(error, FIELD_NAMES, _FORMS)) from error


def _is_blank(name: str, value: Any) -> bool:
    """A text query is blank if nothing of it can be seen: its embedding would disturb that of the photo."""
    if not isinstance(value, str):
        return value is None
    short = name == "text" and len(value) <= _MAX_TEXT_CHARS
    return not value.strip() or (short and all(unicodedata.category(sign)[0] in "CZ" for sign in value))
