"""Step 3, features of items and of the user: read from the feature store, or done without if it fails."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from immr.features.feature_store import FeatureReader, UserReader
from immr.types import Candidate, ItemFeatures, UserFeatures

T = TypeVar("T")

log = logging.getLogger(__name__)


class FeatureLookup:
    """Reads the features of candidates and users. A failing store degrades the answer instead of failing it."""

    def __init__(self, reader: FeatureReader | None, users: UserReader | None = None) -> None:
        """`reader=None` means that search runs without features, which is not a degradation; `users=None` too."""
        self._reader = reader
        self._users = users
        self._failing: set[str] = set()  # whose features, items' or users'

    def read(self, candidates: Sequence[Candidate]) -> tuple[dict[str, ItemFeatures], bool]:
        """Features by item_id, and whether the store failed."""
        if self._reader is None or not candidates:
            return {}, False
        reader, item_ids = self._reader, [candidate.item_id for candidate in candidates]
        features = self._attempt("items", lambda: reader.read(item_ids))
        return ({}, True) if features is None else (features, False)

    def read_user(self, user_id: str) -> tuple[UserFeatures | None, bool]:
        """Features of a user, if there are any, and whether the store failed."""
        if self._users is None or not user_id:
            return None, False
        users = self._users
        found = self._attempt("users", lambda: (users.read_user(user_id),))
        return (None, True) if found is None else (found[0], False)

    def _attempt(self, whose: str, read: Callable[[], T]) -> T | None:
        try:
            found = read()
        except Exception as error:  # a shopper gets an answer whatever breaks in the store
            level = logging.DEBUG if whose in self._failing else logging.WARNING  # one warning per outage
            log.log(level, "ranking without features of %s: %s", whose, error)
            self._failing.add(whose)
            return None
        self._failing.discard(whose)
        return found
