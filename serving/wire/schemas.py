"""The records of the HTTP API, shared by gateway and Bento."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from immr.events.tokens import MAX_CHARS
from immr.types import AttributeValue, ItemFeatures, Match

MAX_USER_CHARS = 200
MAX_AMOUNT = 1e9
VARIANT_HEADER = "x-immr-variant"
USER_KEY_HEADER = "x-immr-user-key"
"""Set by the gateway: the suffix of the query's id, so that a user's events stay in order."""

USER_HEADER = "x-immr-user"
"""Set by the gateway: who searches, percent-encoded, for personal rankers. A cookie stays in the gateway."""


class MemberBody(BaseModel):
    """Another item of a hit's group. A click on it counts for the hit: return the hit's `click_token`."""

    item_id: str
    title: str
    image_url: str
    attributes: dict[str, AttributeValue]


class HitBody(BaseModel):
    """A ranked item. `score_parts` add up to `score`; return `click_token` with a click or an order."""

    item_id: str
    position: Annotated[int, Field(ge=1, description="1 is the top; later pages continue the count.")]
    score: float
    score_parts: dict[str, float]
    title: str
    category: str
    image_url: str
    features: ItemFeatures | None
    click_token: str
    attributes: Annotated[dict[str, AttributeValue], Field(description="As the shop declares them.")] = {}
    group: Annotated[
        str | None, Field(description="In a search with `group_by`; null if the item has no group.")
    ] = None
    members: Annotated[
        list[MemberBody], Field(description="Other items of the group, most similar first.")
    ] = []
    match: Annotated[
        Match | None,
        Field(description="Whether it is the thing on the photo; null without a calibration, or with words."),
    ] = None


class FacetBody(BaseModel):
    """The values of an attribute: `counts` of a keyword, most frequent first, or the ends of a number."""

    counts: dict[str, int] = {}
    min: float | None = None
    max: float | None = None


class SearchBody(BaseModel):
    """The answer to a search. `degraded` lists the parts that were unavailable."""

    model_config = ConfigDict(protected_namespaces=())

    query_id: str
    variant: str
    model_version: str
    hits: list[HitBody]
    degraded: list[str]
    took_ms: float
    facets: Annotated[
        dict[str, FacetBody],
        Field(
            description="The requested ones; without hits also those of the filters. Each ignores its own."
        ),
    ] = {}
    next_page: Annotated[
        str | None, Field(description="Send it as `page` for the next hits; null on the last page.")
    ] = None
    match: Annotated[
        Match | None,
        Field(description="The best of its hits; `none`: the catalogue has nothing like the photo."),
    ] = None


def plain_number(value: Any) -> Any:
    """Refuses two things that Pydantic reads as numbers: true as 1, and 1_0 as 10.

    Raises:
        ValueError: The value is true or false, or a text with an underscore.
    """
    if isinstance(value, bool):
        raise ValueError("Send a number, not true or false")
    if isinstance(value, str) and "_" in value:
        raise ValueError("Send a number with digits alone, such as 1000")
    return value


class EventBody(BaseModel):
    """A click on a hit, or an order of it."""

    model_config = ConfigDict(extra="forbid")  # a misspelt `amount` would be lost without a word

    type: Literal["click", "order"]
    click_token: Annotated[str, Field(min_length=1, max_length=MAX_CHARS)]
    ts: datetime
    amount: Annotated[
        float | None,
        Field(
            ge=0,
            le=MAX_AMOUNT,
            allow_inf_nan=False,
            description="What the order was worth, in the shop's one currency.",
        ),
        BeforeValidator(plain_number),
    ] = None

    @model_validator(mode="after")
    def _only_orders_have_amounts(self) -> Self:
        if self.amount is not None and self.type != "order":
            raise ValueError("only an order has an amount: leave it out of clicks")
        return self


class EventsBody(BaseModel):
    """Clicks and orders. Sending an event twice counts once."""

    events: Annotated[list[EventBody], Field(min_length=1, max_length=1000)]


class Rejected(BaseModel):
    """An event that was not recorded: its index in the request, and the reason."""

    index: int
    reason: str


class EventsAnswer(BaseModel):
    """How many events were new, how many were duplicates, and which were rejected.

    `waiting` counts the accepted events that are on disk until the event log is back; some of them may turn
    out to be duplicates.
    """

    accepted: int
    duplicates: int
    waiting: int = 0
    rejected: list[Rejected]
