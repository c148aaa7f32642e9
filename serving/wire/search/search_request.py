"""Validates a search: which photos, item or page, which filters, and what the answer shall contain."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from fastapi import Request

from immr.search.pages import Wanted
from immr.types import AttributeKind, Condition, Filters, Region
from serving.wire.application import JSON
from serving.wire.forms import PHOTO, SearchForm
from serving.wire.problems import FieldProblem, ProblemError, invalid_fields
from serving.wire.search.filters import conditions, known
from serving.wire.search.search_fields import FIELD_NAMES, SearchFields, read_fields

MAX_PHOTOS = 5
_SLACK = 1e-6  # of boxes that were rounded
_ONE_OF = "send one of image, item_id and page"
PHOTO_SCHEMA = {
    "type": "string",
    "format": "binary",
    "description": "The photo: a JPEG, PNG, WebP, GIF or BMP. The whole request may have 10 MB.",
}
_PHOTOS = {
    "type": "array",
    "items": PHOTO_SCHEMA,
    "maxItems": MAX_PHOTOS,
    "description": "Send up to five photos of one thing.",
}
ENCODED_PHOTO = {
    "type": "string",
    "contentEncoding": "base64",
    "description": "A photo, also as a `data:` URL.",
}
_ENCODED_PHOTOS = {
    "anyOf": [ENCODED_PHOTO, {"type": "array", "items": ENCODED_PHOTO, "maxItems": MAX_PHOTOS}]
}
_SNIFFED_BYTES = 512


@dataclass(frozen=True)
class SearchRequest:
    """A valid search, which has exactly one of photos, the URL of one, item_id and page, or a text."""

    photo_views: tuple[memoryview, ...]
    fields: SearchFields
    region: Region | None = None

    def with_photo(self, photo: memoryview) -> SearchRequest:
        """The search with the photo that its URL names.

        Raises:
            ProblemError: 422 if it is text.
        """
        check_photo(photo)
        return replace(self, photo_views=(photo,))

    @property
    def photos(self) -> list[bytes]:
        """Copies of the photos."""
        return [bytes(view) for view in self.photo_views]

    def check_continues(self, page: Wanted, kinds: Mapping[str, AttributeKind]) -> None:
        """Checks that no field contradicts the page's, which have been decided by the search that it continues.

        Raises:
            ProblemError: 422 that names a field with another value.
        """
        given, wanted = self.fields.model_fields_set, self.wanted(kinds)
        message = "The page continues a search with another value. Leave it out, or start a new search"
        for name, own, of_page in (
            ("k", wanted.k, page.k),
            ("text", wanted.text, page.text),
            ("group_by", wanted.group_by, page.group_by),
            ("members", wanted.members, page.members),
            ("category", wanted.filters.category, page.filters.category),
            ("price_min", wanted.filters.price_min, page.filters.price_min),
            ("price_max", wanted.filters.price_max, page.filters.price_max),
            ("filter", _unordered(wanted.filters.conditions), _unordered(page.filters.conditions)),
        ):
            if name in given and own not in (None, "", set()) and own != of_page:
                raise invalid_fields([FieldProblem(field=name, message=message)])

    def wanted(self, kinds: Mapping[str, AttributeKind]) -> Wanted:
        """What the answer shall contain.

        Args:
            kinds: what can be filtered by.

        Raises:
            ProblemError: 422 for an unknown attribute, or one of the wrong kind.
        """
        fields = self.fields
        filters = Filters(
            fields.category or None,
            fields.price_min,
            fields.price_max,
            conditions=conditions(fields.filter, kinds) if fields.filter else (),
        )
        if fields.group_by is not None and kinds[known("group_by", fields.group_by, kinds)] != "keyword":
            what = "is a number" if kinds[fields.group_by] == "number" else "has several values"
            message = f"{fields.group_by} {what}. Group by a keyword"
            raise invalid_fields([FieldProblem(field="group_by", message=message)])
        if "members" in fields.model_fields_set and fields.group_by is None and fields.page is None:
            message = "Members are of groups. Send group_by as well"
            raise invalid_fields([FieldProblem(field="members", message=message)])
        return Wanted(fields.k, filters, fields.group_by, fields.text or "", fields.members)


def _unordered(conditions: tuple[Condition, ...]) -> set[tuple[object, ...]]:
    return {(each.name, each.negated, frozenset(each.values), frozenset(each.ranges)) for each in conditions}


async def read_search(request: Request) -> SearchRequest:
    """Reads and validates a search.

    Raises:
        ProblemError: 415 for an unknown content type, 400 for a malformed body, 422 for invalid fields.
    """
    return validate(SearchForm.read(await request.body(), request.headers, request.url.query))


def validate(form: SearchForm) -> SearchRequest:
    """Validates a search. A blank field counts as absent.

    Raises:
        ProblemError: 422 for an invalid or unknown field, or unless there is one of photo, item and page.
    """
    fields = read_fields(form.values)
    if misplaced := [name for name in form.unread if name in FIELD_NAMES]:
        message = "Send it in the body: the query string is read only beside a photo alone, as image/jpeg"
        raise invalid_fields([FieldProblem(field=name, message=message) for name in misplaced])
    _check_prices(fields.price_min, fields.price_max)
    given = [name for name in ("image_url", "item_id", "page") if getattr(fields, name) is not None]
    if form.photos and (any(form.photos) or not (given or fields.text)):
        given.append(PHOTO)
    if not given and fields.text is None:
        raise invalid_fields([FieldProblem(field=PHOTO, message=f"Field required: {_ONE_OF}, or a text")])
    if len(given) > 1:
        raise ProblemError(422, f"The search has both {' and '.join(given)}: {_ONE_OF}.")
    photos = form.photos if PHOTO in given else ()
    if len(photos) > MAX_PHOTOS:
        raise ProblemError(422, f"The search has {len(photos)} photos. Send at most {MAX_PHOTOS}.")
    for photo in photos:
        check_photo(photo)
    return SearchRequest(photos, fields, _region(fields.box, len(photos) + (fields.image_url is not None)))


def _check_prices(smallest: float | None, largest: float | None) -> None:
    if smallest is not None and largest is not None and smallest > largest:
        message = f"{smallest:.15g} is above the price_max of {largest:.15g}, so no item can match. Swap them"
        raise invalid_fields([FieldProblem(field="price_min", message=message)])


def _region(box: str | None, photos: int) -> Region | None:
    if box is None:
        return None
    region = Region(*map(float, box.split(",")))
    if photos != 1:
        message = "A box is a part of one photo. Send it with exactly one image"
    elif not (region.width > 0 and region.height > 0):
        message = "The box is empty. Give it a width and a height above 0"
    elif region.x + region.width > 1 + _SLACK or region.y + region.height > 1 + _SLACK:
        message = "The box reaches beyond the photo. x + width and y + height must not exceed 1"
    else:
        return region
    raise invalid_fields([FieldProblem(field="box", message=message)])


def check_photo(photo: memoryview) -> None:
    """Refuses nothing, or text, in place of a photo, before it reaches a decoder.

    Raises:
        ProblemError: 422.
    """
    if not photo:  # a browser sends this for a form without a chosen file
        raise ProblemError(422, "The image is empty. Choose a photo.")
    if _is_text(photo):
        raise ProblemError(
            422,
            "The image is text, not a picture: send a JPEG, PNG, WebP, GIF or BMP file, "
            "with curl as `-F image=@photo.jpg`.",
        )


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
    form = {**fields, "properties": {PHOTO: _PHOTOS, **fields["properties"]}}
    content = {
        "multipart/form-data": {"schema": form},
        JSON: {
            "schema": {
                **fields,
                "properties": {PHOTO: _ENCODED_PHOTOS, **fields["properties"]},
                "anyOf": [{"required": [name]} for name in (PHOTO, "image_url", "item_id", "page", "text")],
            }
        },
        "image/*": {"schema": {**PHOTO_SCHEMA, "description": "The other fields are in the query string."}},
    }
    return {"required": True, "content": content}
