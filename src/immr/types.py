"""The records that parts of IMMR hand to each other. Frozen, small, and free of heavy libraries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
"""float32 array; embeddings are (N, D) with unit rows."""

EventType = Literal["click", "order"]
Role = Literal["champion", "challenger"]


@dataclass(frozen=True, slots=True)
class Item:
    """A document: one thing in the catalogue, with picture and text."""

    item_id: str
    title: str
    description: str
    category: str  # a path: "Packages/Milk"
    image: str  # URI or path
    price: float
    updated_at: datetime
    stock: float | None = None  # how much can be sold; None where the shop does not say


@dataclass(frozen=True, slots=True)
class Impression:
    """One item that a query showed, at a 1-based position."""

    query_id: str
    item_id: str
    position: int
    user_id: str
    variant: str
    model_version: str
    ts: datetime


@dataclass(frozen=True, slots=True)
class Click:
    """What a shopper did with an impression; `event_id` makes a repeat harmless."""

    event_id: str
    type: EventType
    query_id: str
    item_id: str
    ts: datetime


@dataclass(frozen=True, slots=True)
class SearchRecord:
    """One answered search: known even where it showed nothing."""

    query_id: str
    user_id: str
    ts: datetime
    variant: str  # what the user is assigned to
    model_version: str  # what answered
    took_ms: float
    results: int
    degraded: bool = False  # answered without features
    fallback: bool = False  # another variant had to answer


@dataclass(frozen=True, slots=True)
class ItemFeatures:
    """Entity features of an item as the feature store knows them: 7 days, CTR smoothed to the mean."""

    price: float
    category: str
    impressions_7d: int
    clicks_7d: int
    ctr_7d: float
    stock: float | None = None
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Filters:
    """Which items may be found; what is None lets all pass."""

    category: str | None = None  # this path and what is below it
    price_min: float | None = None
    price_max: float | None = None
    exclude: str | None = None  # an item_id


@dataclass(frozen=True, slots=True)
class Candidate:
    """What the index gives back: an item, its cosine similarity, and its payload."""

    item_id: str
    cosine: float
    title: str
    category: str
    image: str


@dataclass(frozen=True, slots=True)
class Hit:
    """A ranked answer; `score_parts` add up to `score`."""

    item_id: str
    score: float
    title: str
    category: str
    image: str
    features: ItemFeatures | None = None
    score_parts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A trained model in the registry. `id` names its Bento, its collection and its rows in the event log."""

    name: str
    number: int
    key: str  # hash of what it was trained from: the same key is never trained twice
    run_id: str
    dim: int
    preprocessing_hash: str
    manifest_hash: str
    recipe: str

    @property
    def id(self) -> str:
        """For example `immr-3`."""
        return f"{self.name}-{self.number}"
