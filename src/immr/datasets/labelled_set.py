"""A labelled data set: a catalogue, and photos whose right item is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from immr.errors import DatasetError
from immr.types import Item


class DatasetPhoto(NamedTuple):
    """A photo, the item that it shows, and the split that it belongs to."""

    image: str
    item_id: str
    split: str  # train, val or test


@dataclass(frozen=True)
class LabelledSet:
    """A catalogue with photos; which splits there are depends on the set."""

    name: str
    items: list[Item]
    photos: list[DatasetPhoto]

    def split(self, name: str) -> list[DatasetPhoto]:
        """The photos of one split, in the set's order.

        Raises:
            DatasetError: the set has no such split; the message lists those it has.
        """
        photos = [photo for photo in self.photos if photo.split == name]
        if not photos:
            there = ", ".join(sorted({photo.split for photo in self.photos}))
            raise DatasetError(f"the data set {self.name} has no split {name!r} here; take one of: {there}")
        return photos
