"""The records that IMMR's parts exchange: frozen, small, without heavy libraries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Annotated, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from annotated_types import Interval

FloatArray = npt.NDArray[np.float32]
"""float32 array; embeddings are (N, D) with unit rows."""
HalfArray = npt.NDArray[np.float16]
"""float16 array, as the cache keeps features."""
ByteArray = npt.NDArray[np.uint8]

EventType = Literal["click", "order"]
AttributeKind = Literal["keyword", "keywords", "number"]
AttributeValue = str | list[str] | float
"""Of a keyword, of keywords, and of a number."""
Match = Literal["exact", "similar", "none"]
Role: TypeAlias = str
"""What a version is in a test, one of `ALL_ROLES`: the champion, or one of up to nine challengers."""
ALL_ROLES: tuple[Role, ...] = ("champion", "challenger", *(f"challenger-{number}" for number in range(2, 10)))
CHALLENGER_ROLES = ALL_ROLES[1:]
MISSING_VALUES = {
    *("null", "NULL", "(null)", "(NULL)", "N/A", "n/a"),  # databases and exports
    *("nan", "NaN", "NaT", "<NA>", "None", "undefined", "[object Object]"),  # pandas, Python, JavaScript
    *("#N/A", "#REF!", "#VALUE!", "#NAME?", "#NULL!", "#DIV/0!", "#NUM!"),  # spreadsheets
}
"""What programs write for a missing id or text: all rows and visitors without an id would become one item or user.

Only as programs spell it: NAT may be an item, Nan and Null are names of people, and NA is a brand and a country.
"""


def in_a_sentence(role: Role) -> str:
    """A role within a sentence: "the champion", but "challenger-2"."""
    return role if role[-1:].isdigit() else f"the {role}"


# numbers of recipes; the ranges are checked where a recipe is read from a file
Count = Annotated[int, Interval(ge=1, le=1_000_000_000)]
CountOrZero = Annotated[int, Interval(ge=0, le=1_000_000_000)]
Pixels = Annotated[int, Interval(ge=1, le=4096)]
"""The side of a picture that an encoder sees."""
Seed = Annotated[int, Interval(ge=0, le=2**31 - 1)]
Share = Annotated[float, Interval(ge=0, le=1)]
ShareAboveZero = Annotated[float, Interval(gt=0, le=1)]
ShareBelowOne = Annotated[float, Interval(ge=0, lt=1)]
Confidence = Annotated[float, Interval(gt=0, lt=1)]
Difference = Annotated[float, Interval(ge=-1, le=1)]
"""Between two metrics or cosines."""
Weight = Annotated[float, Interval(ge=0, le=1e9)]
SignedWeight = Annotated[float, Interval(ge=-1e9, le=1e9)]
Positive = Annotated[float, Interval(gt=0, le=1e9)]


@dataclass(frozen=True, slots=True)
class Item:
    """An item of the catalogue, with image and text; the model embeds it as a document."""

    item_id: str
    title: str
    description: str
    category: str  # a path: "Packages/Milk"
    image: str  # URI or path
    price: float
    updated_at: datetime
    stock: float | None = None  # units for sale; None if unknown
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)  # declared by the shop
    images: tuple[str, ...] = ()  # additional pictures, like `image`

    @property
    def pictures(self) -> tuple[str, ...]:
        """All pictures, the main one first."""
        return (self.image, *self.images)


@dataclass(frozen=True, slots=True)
class Impression:
    """One item shown for a query, at a 1-based position."""

    query_id: str
    item_id: str
    position: int
    user_id: str
    variant: str
    model_version: str
    ts: datetime


@dataclass(frozen=True, slots=True)
class Click:
    """A click or an order of a shown item. Repeats have the same `event_id`."""

    event_id: str
    type: EventType
    query_id: str
    item_id: str
    ts: datetime
    amount: float | None = None  # what an order was worth, in the shop's currency; None if not sent


@dataclass(frozen=True, slots=True)
class SearchRecord:
    """One answered search, even if it found nothing."""

    query_id: str
    user_id: str
    ts: datetime
    variant: str  # assigned to the user
    model_version: str  # the version that answered
    took_ms: float
    results: int
    degraded: bool = False  # answered without features
    fallback: bool = False  # another variant answered instead
    context: str = ""  # JSON of the declared dimensions, such as {"country":"SE"}; empty if none were sent


@dataclass(frozen=True, slots=True)
class ItemFeatures:
    """Features of an item in the feature store, over 7 days; the CTR is smoothed towards the mean."""

    price: float
    category: str
    impressions_7d: int
    clicks_7d: int
    ctr_7d: float
    stock: float | None = None
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class UserFeatures:
    """A user's recent clicks in the feature store, newest first: the items, as the catalogue describes them.

    All tuples have one entry for each click. None of them is in the text of the object, which may be logged.
    """

    items: tuple[str, ...] = field(repr=False)  # item_ids
    categories: tuple[str, ...] = field(repr=False)
    prices: tuple[float, ...] = field(repr=False)
    attributes: tuple[Mapping[str, AttributeValue], ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Condition:
    """What an attribute of an item must be: one of the values, or a number within one of the ranges."""

    name: str  # an attribute, `category` or `price`
    values: tuple[str, ...] = ()  # of a category: the path or one above it
    ranges: tuple[tuple[float | None, float | None], ...] = ()  # from, to; both included, None is open
    negated: bool = False  # keep the other items, and those without the attribute
    exact: bool = False  # of a category: the path itself, without what is below it


@dataclass(frozen=True, slots=True)
class Filters:
    """Which items a search may return; None means no restriction."""

    category: str | None = None  # this path and everything below
    price_min: float | None = None
    price_max: float | None = None
    exclude: str | None = None  # an item_id
    conditions: tuple[Condition, ...] = ()  # all must hold


class Candidate(NamedTuple):
    """A result of the index: an item, its cosine similarity, and its payload.

    A tuple, because a search may create hundreds and a dataclass takes three times as long.
    """

    item_id: str
    cosine: float
    title: str
    category: str
    image: str
    attributes: Mapping[str, AttributeValue] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Region:
    """A part of a picture, relative to its size: the upper left corner at (0, 0), the lower right at (1, 1)."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Facet:
    """The values that an attribute has among items: counts of a keyword, the ends of a number."""

    counts: Mapping[str, int] = field(default_factory=dict)  # most frequent first
    smallest: float | None = None
    largest: float | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """A ranked result; `score_parts` add up to `score`."""

    item_id: str
    score: float
    title: str
    category: str
    image: str
    features: ItemFeatures | None = None
    score_parts: Mapping[str, float] = field(default_factory=dict)
    group: str | None = None  # in a grouped search
    members: tuple[Candidate, ...] = ()  # other items of the group
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    match: Match | None = None  # whether it is the thing on the photo; None if that is not known


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A trained model in the registry. `id` also names its Bento, collection and rows in the event log."""

    name: str
    number: int
    key: str  # hash of the inputs; the same key is never trained twice
    run_id: str
    dim: int
    preprocessing_hash: str
    manifest_hash: str
    recipe: str

    @property
    def id(self) -> str:
        """For example `immr-3`."""
        return f"{self.name}-{self.number}"
