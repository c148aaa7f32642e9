"""A labelled data set: a catalogue, and photos whose correct item is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from immr.errors import DatasetError
from immr.types import Item


class DatasetPhoto(NamedTuple):
    """A photo, the item it shows and its split."""

    image: str
    item_id: str
    split: str  # train, val or test
    source: str = ""  # who took it, if known: for holding out whole sources
    unseen: bool = False  # the item is new: training may see neither its photos nor its document


@dataclass(frozen=True)
class LabelledSet:
    """A catalogue with photos. Data sets differ in the splits they have."""

    name: str
    items: list[Item]
    photos: list[DatasetPhoto]

    def split(self, name: str) -> list[DatasetPhoto]:
        """The photos of one split, in the data set's order.

        Raises:
            DatasetError: the data set has no such split.
        """
        photos = [photo for photo in self.photos if photo.split == name]
        if not photos:
            available = ", ".join(sorted({photo.split for photo in self.photos}))
            raise DatasetError(f"the data set {self.name} has no split {name!r}: choose one of {available}")
        return photos

    @property
    def unseen_items(self) -> frozenset[str]:
        """The ids of items that training must not see."""
        return frozenset(photo.item_id for photo in self.photos if photo.unseen)
