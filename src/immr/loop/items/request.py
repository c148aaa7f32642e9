"""What `immr items` asks for, and what it gets back: small records, without heavy libraries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class ItemsProgress:
    """How far delivery to a version's collection is; `error` says why it stopped, if it did."""

    version_id: str
    live: bool
    delivered: int  # the last change delivered to the collection
    latest: int
    searched: int | None  # the last change visible to searches, if known
    error: str = ""

    @property
    def waiting(self) -> int:
        """Number of changes not delivered yet."""
        return self.latest - self.delivered


@dataclass(frozen=True)
class ItemsRequest:
    """One command."""

    verb: Literal["upsert", "delete", "deliver", "status"]
    source: str = ""  # of upserted items: a file, folder, glob or URL
    map_file: str = ""
    item_ids: tuple[str, ...] = ()  # deleted


@dataclass(frozen=True)
class ItemsResult:
    """The progress of each version's collection; for upserted items, how many rows were accepted."""

    progress: tuple[ItemsProgress, ...]
    rows_in: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)  # rows by reason
    examples: Mapping[str, Sequence[str]] = field(
        default_factory=dict
    )  # some of the rejected items by reason
    unknown: tuple[str, ...] = ()  # of the deleted items, those that are not in the catalogue
