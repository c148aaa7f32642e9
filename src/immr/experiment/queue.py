"""The queue of versions that start as challenger when the running test has ended: a JSON file beside it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

from immr.errors import ExperimentError
from immr.storage.atomic import write_atomically


@dataclass(frozen=True, slots=True)
class WaitingVersion:
    """A packaged and indexed version, and the share of users that its test will give it."""

    model_version: str
    bento: str
    share: float
    since: datetime
    force: bool = False  # deploy it whatever its gate said
    problem: str = ""  # why the last attempt to start it failed


@dataclass(frozen=True, slots=True)
class Queue:
    """Waiting versions, in the order of their deployment. The last is next: most likely, its data are the newest."""

    versions: tuple[WaitingVersion, ...] = ()
    held: str = ""  # why nothing starts by itself; empty if it does

    def newest(self, count: int) -> tuple[WaitingVersion, ...]:
        """The versions that start next, oldest first."""
        return self.versions[-count:]

    def add(self, version: WaitingVersion) -> Queue:
        """The queue with this version as its newest; an earlier entry of the same version is replaced."""
        return replace(self, versions=(*self.without(version.model_version).versions, version))

    def put(self, version: WaitingVersion) -> Queue:
        """The queue with a version's entry replaced."""
        places = tuple(
            version if each.model_version == version.model_version else each for each in self.versions
        )
        return replace(self, versions=places)

    def without(self, model_version: str) -> Queue:
        """The queue without this version."""
        kept = tuple(each for each in self.versions if each.model_version != model_version)
        return replace(self, versions=kept)


def load_queue(path: Path) -> Queue:
    """Read the queue; a missing file is an empty queue.

    Raises:
        ExperimentError: The file is damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        versions = tuple(
            WaitingVersion(**row | {"since": datetime.fromisoformat(row["since"])})
            for row in content["versions"]
        )
        return Queue(versions, content["held"])
    except FileNotFoundError:
        return Queue()
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ExperimentError(
            f"the queue {path} is damaged ({error}): delete it, then deploy the versions that waited again"
        ) from error


def save_queue(queue: Queue, path: Path) -> None:
    """Write the queue atomically."""
    rows = [asdict(each) | {"since": each.since.isoformat()} for each in queue.versions]
    write_atomically(path, json.dumps({"versions": rows, "held": queue.held}, indent=1) + "\n")


def hold(path: Path, reason: str) -> None:
    """Keep the queue from starting anything by itself, if something waits in it."""
    if (queue := load_queue(path)).versions:
        save_queue(replace(queue, held=reason), path)
