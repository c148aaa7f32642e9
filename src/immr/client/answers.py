"""What the service answers, as frozen records; fields that a later release adds are ignored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, Self


class _Record:
    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Self:
        """From parsed JSON."""
        names = [each.name for each in fields(cls)]  # type: ignore[arg-type]
        return cls(**{name: body[name] for name in names if name in body})


@dataclass(frozen=True, slots=True)
class Member(_Record):
    """Another item of a hit's group."""

    item_id: str
    title: str
    image_url: str
    attributes: Mapping[str, str | list[str] | float]


@dataclass(frozen=True, slots=True)
class Hit(_Record):
    """A ranked item; `score_parts` add up to `score`."""

    item_id: str
    position: int
    score: float
    score_parts: Mapping[str, float]
    title: str
    category: str
    image_url: str  # relative to the service; `Client.picture` reads it
    features: Mapping[str, Any] | None
    click_token: str
    attributes: Mapping[str, str | list[str] | float]
    group: str | None = None
    members: tuple[Member, ...] = ()
    match: Literal["exact", "similar", "none"] | None = None

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Self:
        """From parsed JSON."""
        members = tuple(Member.of(member) for member in body.get("members", ()))
        return super(Hit, cls).of({**body, "members": members})


@dataclass(frozen=True, slots=True)
class Facet(_Record):
    """The values of an attribute: counts of a keyword, or the ends of a number."""

    counts: Mapping[str, int]
    min: float | None = None
    max: float | None = None


@dataclass(frozen=True, slots=True)
class Answer(_Record):
    """One page of hits; `degraded` names parts of the service that were unavailable."""

    query_id: str
    variant: str
    model_version: str
    hits: tuple[Hit, ...]
    degraded: tuple[str, ...]
    took_ms: float
    facets: Mapping[str, Facet]
    next_page: str | None = None
    match: Literal["exact", "similar", "none"] | None = None  # the best of its hits

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Self:
        """From parsed JSON."""
        parsed = {
            "hits": tuple(Hit.of(hit) for hit in body["hits"]),
            "degraded": tuple(body["degraded"]),
            "facets": {name: Facet.of(facet) for name, facet in body.get("facets", {}).items()},
        }
        return super(Answer, cls).of({**body, **parsed})


@dataclass(frozen=True, slots=True)
class ProposedRegion:
    """A part of a photo that may show one thing: the `box` of a search, and how much it stands out."""

    box: tuple[float, float, float, float]  # x, y, width, height from 0 to 1
    score: float


@dataclass(frozen=True, slots=True)
class Regions(_Record):
    """Parts of a photo to search for, best first."""

    regions: tuple[ProposedRegion, ...]
    took_ms: float

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Self:
        """From parsed JSON."""
        regions = []
        for each in body["regions"]:
            x, y, width, height = map(float, each["box"].split(","))
            regions.append(ProposedRegion((x, y, width, height), each["score"]))
        return super(Regions, cls).of({**body, "regions": tuple(regions)})


@dataclass(frozen=True, slots=True)
class Recorded(_Record):
    """How many events were new, how many were known, and which were rejected with which reason."""

    accepted: int
    duplicates: int
    waiting: int
    rejected: tuple[Mapping[str, Any], ...]
