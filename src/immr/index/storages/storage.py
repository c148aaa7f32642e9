"""The port of a storage: the contents of all collections, and which content each collection serves."""

from __future__ import annotations

from typing import Protocol

from immr.index.binding import Binding
from immr.index.change_journal import ChangeJournal
from immr.index.engines.engine import VectorEngine


class Storage(Protocol):
    """Contents by name. A content is one build of a collection; one content of each collection is published.

    Attributes:
        where: The folder or server, as error messages name it.
        suffix: Appended to the names of new contents, so that each quantization gets its own content.
    """

    where: str
    suffix: str

    def engine(self, content: str) -> VectorEngine:
        """Open the engine of a content, to fill or verify it."""

    def serving(self, collection: str, content: str) -> VectorEngine:
        """Open the engine of a published content for search."""

    def published(self, collection: str) -> str | None:
        """The content that the collection serves, or None."""

    def binding(self, content: str) -> Binding | None:
        """The binding of the content, or None if the content does not exist; never takes a lock."""

    def obstacle(self, content: str) -> str:
        """Why this storage cannot open a content that exists, and what to do; empty if it can."""

    def bind(self, content: str, binding: Binding) -> None:
        """Store the binding of the content."""

    def publish(self, collection: str, content: str) -> None:
        """Make the collection serve this content instead of the previous one, atomically."""

    def discard_others(self, collection: str, keep: str) -> None:
        """Delete the collection's other contents."""

    def collections(self) -> list[str]:
        """The names of all collections."""

    def remove(self, collection: str) -> bool:
        """Delete a collection; False if another process holds it, in which case nothing is deleted."""

    def journal(self, collection: str) -> ChangeJournal | None:
        """Where changes wait for the process that serves the collection; None if they are applied directly."""

    def applied(self, content: str) -> int:
        """Sequence of the last journalled change that was applied to the content."""

    def note_applied(self, content: str, sequence: int) -> None:
        """Store the sequence that `applied` returns."""
