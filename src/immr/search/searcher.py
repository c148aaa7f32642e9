"""The path of a query: encode → retrieve → features → rank. Evaluation shares the encoder, not the ranking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import NamedTuple

from immr.evaluation.matches.rule import MatchRule, strongest
from immr.features.feature_store import FeatureReader, UserReader
from immr.index.vector_index import Collection
from immr.machine import cores
from immr.search import grouping
from immr.search.facets import RecentFacets
from immr.search.feature_lookup import FeatureLookup
from immr.search.grouping import Group, with_members
from immr.search.match_labels import with_matches
from immr.search.pages import Answer, Cursor, Wanted, is_photo_search
from immr.search.query_embedder import QueryEmbedder, QueryEncoder, TextEncoder, timed
from immr.search.rank_fusion import ranked_by_words, search_fused
from immr.search.ranker import Ranker
from immr.search.ranking import Ranking, RankingRecipe
from immr.search.regions import RegionProposal, propose
from immr.search.signals import HEAD
from immr.types import AttributeKind, Candidate, Facet, Filters, FloatArray, Hit, Region

_GROUPED_CANDIDATES = 5_000  # a page looks through no more for groups that were not shown yet
# candidates of a grouped block, as a multiple of those without groups: few, large blocks take less time
_GROUPED_OVERFETCH = 3
MAX_REGIONS = 5


class _Block(NamedTuple):
    """Consecutive candidates of a search, as they were found."""

    candidates: list[Candidate]
    before: int  # how many of the search come before them
    has_more: bool  # whether others follow
    shares: Mapping[str, Mapping[str, float]] | None  # of the fused rankings, in a search with words


class Searcher:
    """Search with one model version. As thread-safe as its parts."""

    def __init__(
        self,
        encoder: QueryEncoder,
        collection: Collection,
        features: FeatureReader | None,
        ranking: RankingRecipe,
        overfetch: int = 3,
        match_rule: MatchRule | None = None,
        ranker: Ranker | None = None,
        texts: TextEncoder | None = None,
        users: UserReader | None = None,
    ) -> None:
        """Create the search from its parts.

        Args:
            encoder: of photos.
            collection: of the same version.
            features: None ranks without features.
            ranking: the weights.
            overfetch: candidates to rank, as a multiple of k.
            match_rule: None leaves hits without a match.
            ranker: orders photo searches, which it has learned from. The hand-tuned weights order all others, and all
                searches while the feature store does not answer.
            texts: None finds texts by their words alone.
            users: for a personal ranker; None ranks for all users alike.
        """
        self._queries = QueryEmbedder(encoder, texts, ranking.text_weight)
        self._collection = collection
        self._facets = RecentFacets(collection)
        self._features = FeatureLookup(features, users)
        self._ranking = ranking
        self._overfetch = overfetch
        self._match_rule = match_rule
        self._ranker = ranker
        self._texts = texts
        self._beside = ThreadPoolExecutor(cores.usable(), thread_name_prefix="words")

    @property
    def attributes(self) -> Mapping[str, AttributeKind]:
        """What searches can filter by, group by and count."""
        return self._collection.attributes

    @property
    def finds_texts(self) -> bool:
        """Whether texts can be searched for, by their words or by their embedding."""
        return self._collection.has_words or self._texts is not None

    def search(
        self, photos: Sequence[bytes], wanted: Wanted, region: Region | None = None, user_id: str = ""
    ) -> Answer:
        """The best items for photos of one thing, whose embeddings are averaged, for words, or for both.

        Args:
            photos: may be none if `wanted` has a text.
            wanted: what the page contains.
            region: the part of each photo to search for; None is all of it.
            user_id: who searches, for a personal ranker; empty if unknown.

        Raises:
            ImageError: the bytes are not a readable picture.
            IndexUnavailableError: the vector database does not answer.
        """
        stage_ms: dict[str, float] = {}
        words = self._words_beside(wanted, is_embedded=bool(photos) or self._texts is not None)
        embedding_D, texture_T = self._queries.embed(photos, region, wanted.text, stage_ms)
        elsewhere = False
        if self._match_rule is not None and photos and embedding_D is not None:
            elsewhere = not self._match_rule.domain.contains(embedding_D, texture_T)
        with timed(stage_ms, "retrieve"):
            by_words = words.result() if words is not None else None
        answer = Answer(embedding_D, user_id, by_words, stage_ms=stage_ms, elsewhere=elsewhere)
        return self._filled(answer, wanted, Cursor(elsewhere=elsewhere))

    def regions(self, photo: bytes, most: int = MAX_REGIONS) -> list[RegionProposal]:
        """The parts of a photo that may show one thing each, best first; `search` takes their regions.

        Raises:
            ImageError: the bytes are not a readable picture.
        """
        return propose(self._queries.decode(photo), most)

    def more_like(self, item_id: str, wanted: Wanted) -> Answer | None:
        """The items most similar to an item, without that item; None if it is unknown.

        Raises:
            IndexUnavailableError: the vector database does not answer.
        """
        stage_ms: dict[str, float] = {}
        with timed(stage_ms, "retrieve"):
            embedding_D = self._collection.embedding(item_id)
        if embedding_D is None:
            return None
        others = replace(wanted, filters=replace(wanted.filters, exclude=item_id))
        embedding_D = self._queries.with_text(embedding_D, wanted.text, stage_ms)
        return self._filled(Answer(embedding_D, stage_ms=stage_ms), others, Cursor())

    def page(
        self, embedding_D: FloatArray | None, wanted: Wanted, cursor: Cursor, user_id: str = ""
    ) -> Answer:
        """A later page of an answer by `search` or `more_like`, with the same `wanted` and user.

        Raises:
            IndexUnavailableError: the vector database does not answer.
        """
        return self._filled(Answer(embedding_D, user_id, elsewhere=cursor.elsewhere), wanted, cursor)

    def facets(self, names: Sequence[str], filters: Filters) -> dict[str, Facet]:
        """The values of attributes among items that pass the filters on the other attributes, at most seconds old.

        Raises:
            KeyError: there is no such attribute.
            IndexUnavailableError: the vector database does not answer.
        """
        return {name: self._facets.read(name, filters) for name in names}

    def _words_beside(self, wanted: Wanted, is_embedded: bool) -> Future[list[int]] | None:
        """Searches by words in another thread while the query is embedded: the two need nothing from each other."""
        if not wanted.text or not is_embedded or not self._collection.has_words:
            return None
        return self._beside.submit(ranked_by_words, self._collection, wanted.text, wanted.filters)

    def _filled(self, answer: Answer, wanted: Wanted, cursor: Cursor) -> Answer:
        search = self._single if wanted.group_by is None else self._grouped
        answer.hits, answer.following = search(answer, wanted, cursor)
        if self._rule_of(answer, wanted) is not None:
            answer.match = strongest(hit.match for hit in answer.hits) or "none"
        return answer

    def _single(self, answer: Answer, wanted: Wanted, cursor: Cursor) -> tuple[list[Hit], Cursor | None]:
        """Candidates are ranked in blocks of `overfetch` pages; the pages of a block are cuts of one order."""
        size = wanted.k * self._overfetch
        block = self._block(answer, wanted, cursor.start, size, before=cursor.start)
        best_first, ranking = self._ranked(answer, wanted, block, range(len(block.candidates)))
        end = cursor.place + wanted.k
        following = None
        if len(best_first) > end:
            following = replace(cursor, place=end)
        elif block.has_more:
            following = replace(cursor, start=cursor.start + size, place=0)
        return self._hits(answer, wanted, ranking, best_first[cursor.place : end]), following

    def _grouped(self, answer: Answer, wanted: Wanted, cursor: Cursor) -> tuple[list[Hit], Cursor | None]:
        """The first hit of each group that no earlier page has, with the group's members.

        As without groups, `overfetch` candidates for each hit are ranked, here the most similar ones of its group.

        Groups that were seen are filtered out of the next block, so that a large one does not fill block after block.
        But blocks are consecutive in searches with words, whose fused ranks depend on the filters, and at the start
        of later pages, which know the groups of earlier ones by their fingerprints only.
        """
        group_by = wanted.group_by or ""
        hits: list[Hit] = []
        groups, following = cursor.groups, None
        narrowed, per_hit = wanted, self._overfetch * _GROUPED_OVERFETCH
        start = offset = before = cursor.start
        seen: dict[Group, list[Candidate]] = {}
        while following is None and before < cursor.start + _GROUPED_CANDIDATES:
            missing = wanted.k - len(hits)  # 0 to learn whether there is another page
            size = per_hit * (wanted.k if narrowed is wanted else max(1, missing))
            block = self._block(answer, narrowed, offset, size, before)
            rows_of = grouping.rows_of_groups(block.candidates, group_by)
            new = [rows for group, rows in rows_of.items() if group.fingerprint() not in groups]
            shortlist = [row for rows in new[: wanted.k * self._overfetch] for row in rows[: self._overfetch]]
            best_first, ranking = self._ranked(answer, wanted, block, sorted(shortlist))
            firsts = grouping.first_of_each(best_first, group_by)
            hits += self._hits(answer, wanted, ranking, list(firsts.values())[:missing])
            groups |= {group.fingerprint() for group in list(firsts)[:missing]}
            if len(new) > missing:
                following = replace(cursor, start=start, groups=groups)
            seen |= {group: [block.candidates[row] for row in rows] for group, rows in rows_of.items()}
            if not block.has_more:
                break
            is_consecutive = wanted.text or before == cursor.start > 0
            offset, before = offset + size, before + size
            start = offset if narrowed is wanted else start
            filters = grouping.without_groups(wanted.filters, group_by, seen)
            if not is_consecutive and filters != narrowed.filters:
                narrowed, offset = replace(wanted, filters=filters), 0
        starts_at_best = cursor.start == 0 and not wanted.text
        with timed(answer.stage_ms, "retrieve"):
            query = (answer.embedding_D, wanted.text, wanted.filters)
            known = seen if starts_at_best else {}
            return with_members(hits, group_by, wanted.members, known, self._collection, *query), following

    def _block(self, answer: Answer, wanted: Wanted, start: int, size: int, before: int) -> _Block:
        """The candidates from `start` on; `before` is how many of the search come before them."""
        shares = None
        with timed(answer.stage_ms, "retrieve"):
            # one more than is returned shows whether another block follows
            if wanted.text:
                weight, filters = self._ranking.words_weight, wanted.filters
                query = (answer.embedding_D, wanted.text, answer.by_words)
                found, shares = search_fused(self._collection, *query, filters, start, size + 1, weight)
            else:
                found = self._similar(answer.embedding_D, size + 1, wanted.filters, start)
        if before == 0:
            answer.head = found[:size][:HEAD]
        return _Block(found[:size], before, len(found) > size, shares)

    def _ranked(
        self, answer: Answer, wanted: Wanted, block: _Block, rows: Sequence[int]
    ) -> tuple[list[Candidate], Ranking]:
        """The candidates in these rows of the block, in the order of hits."""
        candidates = [block.candidates[row] for row in rows]
        ranker = self._ranker if is_photo_search(answer, wanted) else None
        with timed(answer.stage_ms, "features"):
            features, failed = self._features.read(candidates)
            user = None
            if ranker is not None and ranker.personal is not None and not failed:
                answer.user = answer.user or self._features.read_user(answer.user_id)
                user, failed = answer.user
        if failed and "features" not in answer.degraded:
            answer.degraded.append("features")
        with timed(answer.stage_ms, "rank"):
            now = datetime.now(UTC)
            learned = None
            if ranker is not None and not failed and ranker.applies_to(user):
                # personal trees do not read the head
                head = self._head(answer, wanted) if ranker.trees.trees else []
                first_ranks = [block.before + 1 + row for row in rows]
                learned = ranker.added(candidates, first_ranks, head, features, now, user)
            ranking = Ranking(features, self._ranking, now, block.shares, learned)
            return ranking.best_first(candidates), ranking

    def _hits(
        self, answer: Answer, wanted: Wanted, ranking: Ranking, candidates: Sequence[Candidate]
    ) -> list[Hit]:
        with timed(answer.stage_ms, "rank"):
            hits = [ranking.hit(candidate) for candidate in candidates]
            rule = self._rule_of(answer, wanted)
            if rule is None or answer.embedding_D is None:
                return hits
            return with_matches(
                hits, candidates, answer.embedding_D, answer.elsewhere, rule, self._collection
            )

    def _rule_of(self, answer: Answer, wanted: Wanted) -> MatchRule | None:
        """The rule is calibrated on photos, so it applies to neither words nor items as queries."""
        return self._match_rule if is_photo_search(answer, wanted) else None

    def _head(self, answer: Answer, wanted: Wanted) -> list[Candidate]:
        """The most similar candidates of the whole search."""
        if answer.head is None:
            answer.head = self._similar(answer.embedding_D, HEAD, wanted.filters)
        return answer.head

    def _similar(
        self, embedding_D: FloatArray | None, k: int, filters: Filters, offset: int = 0
    ) -> list[Candidate]:
        assert embedding_D is not None, "a search without words has a photo or an item"
        return self._collection.search(embedding_D, k, filters, offset)
