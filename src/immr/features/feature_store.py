"""The feature store as the rest of IMMR uses it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

import pyarrow as pa

from immr.types import ItemFeatures, UserFeatures


class FeatureReader(Protocol):
    """Reads features of items. Every `FeatureStore` is one."""

    def read(self, item_ids: Sequence[str]) -> dict[str, ItemFeatures]:
        """Online features, without items that the store does not have.

        Raises:
            FeaturesUnavailableError: the store does not answer.
        """


class UserReader(Protocol):
    """Reads features of users. Every `FeatureStore` is one."""

    def read_user(self, user_id: str) -> UserFeatures | None:
        """A user's features; None without any.

        Raises:
            FeaturesUnavailableError: the store does not answer.
        """


class FeatureStore(FeatureReader, UserReader, Protocol):
    """Features of items (tables of `stats.SCHEMA`) and of users (tables of `clicks.USERS_SCHEMA`)."""

    @property
    def ready(self) -> bool:
        """Whether the library and the definitions are loaded, so that a read is fast."""

    @property
    def has_users(self) -> bool:
        """Whether users may have features."""

    def warm(self) -> None:
        """Load what makes the first read slow; meant for a background thread.

        Raises:
            FeaturesUnavailableError: the store does not answer, or was never materialized: try again later.
        """

    def materialize(self, stats: pa.Table, users: pa.Table | None = None) -> int:
        """Make these rows the offline source and load them online; returns the rows of items.

        After it, exactly the users of the second table have features, except those who were forgotten.
        """

    def push(self, stats: pa.Table, users: pa.Table | None = None) -> int:
        """Write newer rows online, and append them offline, between two materializations; users as there."""

    def forget(self, user_id: str) -> None:
        """Delete a user's features, and never write any again.

        Raises:
            FeaturesUnavailableError: the store does not answer: call it again.
        """

    def freshness(self) -> datetime | None:
        """The newest event_timestamp online; None if unknown."""
