"""The outbox, a SQLite file: catalogue changes in order, and the last one delivered to each version."""

from __future__ import annotations

import fcntl
import json
import logging
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from immr.data.pictures.relocation import item_kept_here
from immr.errors import ImmrError, IndexMismatchError
from immr.index.vector_index import VectorIndex
from immr.storage.sqlite_file import connected
from immr.types import Item

log = logging.getLogger(__name__)
_TABLES = (
    """CREATE TABLE IF NOT EXISTS changes (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT, item_id TEXT NOT NULL, item TEXT,
        recorded TEXT NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS changes_by_item ON changes (item_id, sequence)",
    """CREATE TABLE IF NOT EXISTS deliveries (
        version_id TEXT PRIMARY KEY, content TEXT NOT NULL, sequence INTEGER NOT NULL)""",
)
_LAST_OF_EACH = """SELECT MAX(sequence), item_id, item, recorded FROM changes
    WHERE sequence > ? AND sequence <= ? GROUP BY item_id ORDER BY 1"""


@dataclass(frozen=True)
class Change:
    """The new state of an item, or None if it was deleted."""

    sequence: int
    item_id: str
    item: Item | None
    recorded: datetime


@dataclass(frozen=True)
class Delivered:
    """The last change that was delivered to a content of a version's collection."""

    content: str
    sequence: int


class Outbox:
    """Changes are durable when `append` returns; the first one creates the file."""

    def __init__(
        self, path: Path, pictures_dir: Path | None = None, last_known: Callable[[], int] = lambda: 0
    ) -> None:
        """Nothing is written before the first change.

        Args:
            path: The SQLite file.
            pictures_dir: Holds fetched pictures, also those that an item names by the place of an earlier home.
            last_known: The last sequence that collections have. An empty outbox continues after it, because an
                earlier one may have been lost.
        """
        self._path, self._pictures_dir, self._last_known = path, pictures_dir, last_known

    @classmethod
    def below(
        cls, home: Path, pictures_dir: Path | None = None, last_known: Callable[[], int] = lambda: 0
    ) -> Outbox:
        """The outbox of an IMMR_HOME, as in the constructor."""
        return cls(home / "items" / "outbox.db", pictures_dir, last_known)

    def append(self, items: Sequence[Item], deleted: Sequence[str]) -> int:
        """Add all changes or none; returns the sequence of the last one.

        Earlier changes of the same items are deleted, because only the last one matters.
        """
        after = 0 if self.latest() else self._last_known()
        now = datetime.now(UTC).isoformat()
        rows: list[tuple[str, str | None, str]] = [(item.item_id, _to_json(item), now) for item in items]
        rows += [(item_id, None, now) for item_id in deleted]
        with self._connection() as connection, connection:
            connection.executemany("DELETE FROM changes WHERE item_id = ?", ((row[0],) for row in rows))
            if after:
                connection.execute("DELETE FROM sqlite_sequence WHERE name = 'changes'")
                connection.execute("INSERT INTO sqlite_sequence VALUES ('changes', ?)", (after,))
            connection.executemany("INSERT INTO changes (item_id, item, recorded) VALUES (?, ?, ?)", rows)
        return self.latest()

    def latest(self) -> int:
        """Sequence of the last change, 0 before the first."""
        if not self._path.is_file():
            return 0
        with self._connection() as connection:
            return int(connection.execute("SELECT COALESCE(MAX(sequence), 0) FROM changes").fetchone()[0])

    def between(self, after: int, until: int) -> list[Change]:
        """The last change of each item with after < sequence ≤ until, in order."""
        if not self._path.is_file():
            return []
        with self._connection() as connection:
            rows = connection.execute(_LAST_OF_EACH, (after, until)).fetchall()
        return [
            Change(sequence, item_id, self._item(item), datetime.fromisoformat(recorded))
            for sequence, item_id, item, recorded in rows
        ]

    def last_of(self, item_id: str) -> Change | None:
        """The last change of one item, or None."""
        if not self._path.is_file():
            return None
        with self._connection() as connection:
            row = connection.execute(
                "SELECT sequence, item, recorded FROM changes WHERE item_id = ? ORDER BY sequence DESC LIMIT 1",
                (item_id,),
            ).fetchone()
        return Change(row[0], item_id, self._item(row[1]), datetime.fromisoformat(row[2])) if row else None

    def delivered(self, version_id: str) -> Delivered:
        """The last change that the version received, and the content that received it."""
        if not self._path.is_file():
            return Delivered("", 0)
        with self._connection() as connection:
            row = connection.execute(
                "SELECT content, sequence FROM deliveries WHERE version_id = ?", (version_id,)
            ).fetchone()
        return Delivered(*row) if row else Delivered("", 0)

    def checked(self, delivered: Delivered) -> Delivered:
        """The argument.

        Raises:
            IndexMismatchError: It is beyond this outbox, whose changes would seem to be delivered.
        """
        if (latest := self.latest()) and delivered.sequence > latest:
            raise IndexMismatchError(
                f"{delivered.content} includes changes up to {delivered.sequence}, but {self._path} ends at "
                f"{latest}, so it is not the outbox that the collection was built with: run `immr index build`"
            )
        return delivered

    def note_delivered(self, version_id: str, delivered: Delivered) -> None:
        """Store the last change that a version received, replacing the earlier value."""
        with self._connection() as connection, connection:
            connection.execute(
                "INSERT OR REPLACE INTO deliveries VALUES (?, ?, ?)",
                (version_id, delivered.content, delivered.sequence),
            )

    def _item(self, text: str | None) -> Item | None:
        item = _from_json(text)
        return item_kept_here(item, self._pictures_dir) if item and self._pictures_dir else item

    @contextmanager
    def delivering(self) -> Iterator[None]:
        """Wait until no other process delivers, so that every collection receives changes in order."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.with_suffix(".lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _connection(self) -> AbstractContextManager[sqlite3.Connection]:
        return connected(self._path, _TABLES)


def last_change(index: VectorIndex) -> int:
    """The largest sequence that a collection has; 0 if the index does not answer."""
    try:
        return max(map(index.last_change, index.versions()), default=0)
    except ImmrError as error:
        log.warning("changes are numbered from 1, because the collections cannot be read: %s", error)
        return 0


def with_changes(items: Sequence[Item], changes: Sequence[Change]) -> list[Item]:
    """Apply changes to a catalogue; a change older than the `updated_at` of its item is ignored."""
    current = {item.item_id: item for item in items}
    for change in changes:
        known = current.get(change.item_id)
        changed_at = change.item.updated_at if change.item else change.recorded
        if known is not None and known.updated_at > changed_at:
            continue
        if change.item is not None:
            current[change.item_id] = change.item
        else:
            current.pop(change.item_id, None)
    return list(current.values())


def _to_json(item: Item) -> str:
    return json.dumps(asdict(item) | {"updated_at": item.updated_at.isoformat()})


def _from_json(text: str | None) -> Item | None:
    if text is None:
        return None
    known = {field.name for field in fields(Item)}
    values = {name: value for name, value in json.loads(text).items() if name in known}
    images = tuple(values.get("images", ()))  # not in changes of earlier releases
    return Item(**values | {"updated_at": datetime.fromisoformat(values["updated_at"]), "images": images})
