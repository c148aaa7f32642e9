"""Which held-out photos depend on each other, so that they count as less than independent photos. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from immr.data.training_set import LabelledPhoto
from immr.machine.wording import counted, listed

_MIN_CLUSTERS = 10  # fewer give an interval too wide to decide anything


@dataclass(frozen=True)
class Clusters:
    """A cluster id for each photo. Photos of different clusters are treated as independent."""

    unit: str  # what a cluster is, in the singular: "user", "session", "class"
    ids: tuple[str, ...]  # (Q,)

    @property
    def count(self) -> int:
        """Number of distinct clusters."""
        return len(set(self.ids))

    def __str__(self) -> str:
        return counted(self.count, self.unit)


def default_clusters(photos: Sequence[LabelledPhoto]) -> Clusters:
    """The user if every photo names one and there are at least ten; otherwise the class.

    Photos of one class are retakes of the same few things, so the class is the safe choice where users are
    unknown.
    """
    users = [photo.user_id for photo in photos]
    if all(users) and len(set(users)) >= _MIN_CLUSTERS:
        return Clusters("user", tuple(str(user) for user in users))
    return Clusters("class", tuple(str(photo.class_id) for photo in photos))


def all_clusterings(clusters: Clusters, photos: Sequence[LabelledPhoto]) -> tuple[Clusters, ...]:
    """The given clusters, and classes if those are users.

    A version is better at some classes, whoever takes the photo, and the photos show only some of all classes. Fewer
    than ten classes are left out.
    """
    classes = Clusters("class", tuple(str(photo.class_id) for photo in photos))
    if clusters.unit != "user" or classes.count < _MIN_CLUSTERS:
        return (clusters,)
    return clusters, classes


def in_words(clusterings: Sequence[Clusters]) -> str:
    """`60 users and 81 classes`."""
    return listed([str(each) for each in clusterings])
