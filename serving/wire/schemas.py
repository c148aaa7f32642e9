"""The records of the HTTP API: what gateway and Bento answer and take in, in the same words."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from immr.types import ItemFeatures

MAX_USER_CHARS = 200
VARIANT_HEADER = "x-immr-variant"
USER_KEY_HEADER = "x-immr-user-key"  # set by a gateway: what the query's id is to end in
DIRECT = "direct"  # asked without a gateway
PREVIEW = "preview"  # looked at, never counted


class HitBody(BaseModel):
    """A ranked item; `score_parts` add up to `score`. Send `click_token` back with a click or an order."""

    item_id: str
    position: Annotated[int, Field(ge=1, description="1 is the top; later pages count on.")]
    score: float
    score_parts: dict[str, float]
    title: str
    category: str
    image_url: str
    features: ItemFeatures | None
    click_token: str


class SearchBody(BaseModel):
    """The answer to a photo; `degraded` names the parts that this answer had to do without."""

    model_config = ConfigDict(protected_namespaces=())

    query_id: str
    variant: str
    model_version: str
    hits: list[HitBody]
    degraded: list[str]
    took_ms: float
    next_page: Annotated[
        str | None, Field(description="Send it as `page` for the next hits; null where there are no more.")
    ] = None


class EventBody(BaseModel):
    """A click on a hit, or an order of it."""

    type: Literal["click", "order"]
    click_token: Annotated[str, Field(min_length=1, max_length=4096)]
    ts: datetime


class EventsBody(BaseModel):
    """What a shopper did; sending it twice counts once."""

    events: Annotated[list[EventBody], Field(min_length=1, max_length=1000)]


class Rejected(BaseModel):
    """An event that was not taken: its place in the request, and why."""

    index: int
    reason: str


class EventsAnswer(BaseModel):
    """How many were new, how many were there already, and which were not taken.

    Of the accepted, `waiting` are safe on disk while the event log is away, and may be repeats.
    """

    accepted: int
    duplicates: int
    waiting: int = 0
    rejected: list[Rejected]
