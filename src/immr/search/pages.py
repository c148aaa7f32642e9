"""What a page of a search should contain, where it begins, and what it contains."""

from __future__ import annotations

from dataclasses import dataclass, field

from immr.index.vector_index import EVERYTHING
from immr.search.grouping import DEFAULT_MEMBERS
from immr.types import Candidate, Filters, FloatArray, Hit, Match, UserFeatures


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a page contains: k hits that pass the filters, or the best hit of each of k groups."""

    k: int
    filters: Filters = EVERYTHING
    group_by: str | None = None  # a keyword attribute or `category`
    text: str = ""  # words that hits should match, alone or beside a photo or an item
    members: int = DEFAULT_MEMBERS  # most other items of a hit's group


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page begins. Pages neither repeat nor skip an item as long as the catalogue does not change."""

    start: int = 0  # candidates before the current block
    place: int = 0  # hits of the block that earlier pages have; 0 in a grouped search
    groups: frozenset[bytes] = frozenset()  # that earlier pages have
    elsewhere: bool = False  # see `Answer`


@dataclass(slots=True)
class Answer:
    """One page of hits, which parts of the search failed, and how long each step took."""

    embedding_D: FloatArray | None  # of the query; `page` takes it for the next page. None for words alone
    user_id: str = field(default="", repr=False)  # who searches, if that is known
    by_words: list[int] | None = field(default=None, repr=False)  # see `search_fused`
    user: tuple[UserFeatures | None, bool] | None = field(default=None, repr=False)  # as `read_user` gave it
    head: list[Candidate] | None = field(default=None, repr=False)  # for a ranker, see `signals`
    hits: list[Hit] = field(default_factory=list)
    following: Cursor | None = None  # None on the last page
    degraded: list[str] = field(default_factory=list)
    stage_ms: dict[str, float] = field(default_factory=dict)
    match: Match | None = None  # the best of its hits; None if the version has no rule for this kind of query
    elsewhere: bool = False  # the photo is outside the domain of the shop's photos


def is_photo_search(answer: Answer, wanted: Wanted) -> bool:
    """Whether the query is photos alone, without words; `more_like` excludes its item."""
    return answer.embedding_D is not None and not wanted.text and wanted.filters.exclude is None
