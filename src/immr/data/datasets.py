"""Data sets with names: a catalogue, and photos whose right item is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from immr.errors import DatasetError
from immr.types import Item


class Photo(NamedTuple):
    """A photo, the item that it shows, and the split that it belongs to."""

    image: str
    item_id: str
    split: str  # train, val or test


@dataclass(frozen=True)
class LabelledSet:
    """A catalogue with photos; which splits there are depends on the set."""

    name: str
    items: list[Item]
    photos: list[Photo]

    def split(self, name: str) -> list[Photo]:
        """The photos of one split, in the set's order.

        Raises:
            DatasetError: the set has no such split; the message lists those it has.
        """
        photos = [photo for photo in self.photos if photo.split == name]
        if not photos:
            there = ", ".join(sorted({photo.split for photo in self.photos}))
            raise DatasetError(f"the data set {self.name} has no split {name!r} here; take one of: {there}")
        return photos


def load(name: str, mirror: Path | None, cache_dir: Path) -> LabelledSet:
    """A data set by its name, fetched or rendered once.

    Args:
        name: `grocery` or `synthetic`.
        mirror: a folder that may hold data sets by name (`<mirror>/grocery`); looked at before the network.
        cache_dir: where fetched and rendered sets are kept.

    Raises:
        DatasetError: unknown name; or the set cannot be fetched, or is not what it should be.
    """
    if name not in _LOADERS:
        raise DatasetError(f"there is no data set {name!r}; take one of: {', '.join(sorted(_LOADERS))}")
    return _LOADERS[name](mirror, cache_dir)


def _grocery(mirror: Path | None, cache_dir: Path) -> LabelledSet:
    from immr.data import grocery

    if mirror and (mirror / "grocery").is_dir():
        return grocery.load(mirror / "grocery")
    return grocery.load(grocery.fetch(cache_dir))


def _synthetic(mirror: Path | None, cache_dir: Path) -> LabelledSet:
    from immr.data import synthetic

    return synthetic.load(synthetic.SyntheticRecipe(), cache_dir)


_LOADERS: dict[str, Callable[[Path | None, Path], LabelledSet]] = {
    "grocery": _grocery,
    "synthetic": _synthetic,
}
