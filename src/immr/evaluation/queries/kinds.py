"""Queries of every kind, made from held-out photos and the catalogue, each with its correct class.

- photo: a held-out photo.
- text: the first words of an item's description, which the word index does not contain; else its title.
- photo+text: a held-out photo with the last part of its item's category, such as "Apple".
- box: four held-out photos of different classes in one picture, with the box around one of them.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageOps

from immr.data.pictures import picture_files
from immr.data.training_set import LabelledPhoto
from immr.evaluation.bootstrap import Estimate
from immr.evaluation.clusters import Clusters, all_clusterings, default_clusters
from immr.types import Item, Region

KINDS = ("photo", "text", "photo+text", "box")

_WORDS = 12
_SIDE_PX = 400  # of a photo in a scene
_CORNERS = ((0, 0), (1, 0), (0, 1), (1, 1))


@dataclass(frozen=True)
class KindQuery:
    """A search whose correct answers are the items of a class."""

    class_id: int
    images: tuple[str, ...] = ()  # URIs; four are the corners of one picture
    text: str = ""
    region: Region | None = None

    def photos(self) -> list[bytes]:
        """The photo that is searched with; none for words alone."""
        if len(self.images) > 1:
            return [_scene([picture_files.load(uri, _SIDE_PX) for uri in self.images])]
        return [picture_files.read(uri) for uri in self.images]


@dataclass(frozen=True)
class KindQueries:
    """The queries of one kind, and which of them depend on each other."""

    queries: tuple[KindQuery, ...]
    clusterings: tuple[Clusters, ...]


@dataclass(frozen=True)
class KindResult:
    """The metrics of one kind of query; empty with a reason if the version cannot answer it."""

    queries: int
    clusters: str  # "60 users and 81 classes"
    intervals: Mapping[str, Estimate] = field(default_factory=dict)
    reason: str = ""


def queries_of(
    kind: str, photos: Sequence[LabelledPhoto], items: Sequence[Item], item_classes: Sequence[int]
) -> KindQueries:
    """The queries of a kind.

    Args:
        kind: one of `KINDS`.
        photos: held out.
        items: the catalogue.
        item_classes: class_id of each item.
    """
    clusterings = all_clusterings(default_clusters(photos), photos)
    match kind:
        case "photo":
            return KindQueries(tuple(KindQuery(each.class_id, (each.image,)) for each in photos), clusterings)
        case "photo+text":
            words = _category_words(items, item_classes)
            both = (KindQuery(each.class_id, (each.image,), words[each.class_id]) for each in photos)
            return KindQueries(tuple(both), clusterings)
        case "text":
            by_words = tuple(
                KindQuery(class_id, text=_text_of(item))
                for item, class_id in zip(items, item_classes, strict=True)
            )
            return KindQueries(by_words, (Clusters("class", tuple(map(str, item_classes))),))
        case _:
            return _box_queries(photos, clusterings)


def _text_of(item: Item) -> str:
    return " ".join((item.description or item.title or item.category).split()[:_WORDS])


def _category_words(items: Sequence[Item], item_classes: Sequence[int]) -> dict[int, str]:
    """By class: the last part of its first item's category."""
    words: dict[int, str] = {}
    for item, class_id in zip(items, item_classes, strict=True):
        words.setdefault(class_id, item.category.split("/")[-1].replace("-", " "))
    return words


def _box_queries(photos: Sequence[LabelledPhoto], clusterings: tuple[Clusters, ...]) -> KindQueries:
    """One scene around each photo; none if there are fewer than four classes."""
    generator = np.random.default_rng(0)
    classes_Q = np.array([photo.class_id for photo in photos])
    if len(np.unique(classes_Q)) < len(_CORNERS):
        return KindQueries((), clusterings)
    queries = []
    for row, photo in enumerate(photos):
        scene = [photo]
        for candidate in generator.permutation(len(photos)):
            if len(scene) == len(_CORNERS):
                break
            if photos[candidate].class_id not in {each.class_id for each in scene}:
                scene.append(photos[candidate])
        place = row % len(_CORNERS)
        scene[0], scene[place] = scene[place], scene[0]
        x, y = _CORNERS[place]
        uris = tuple(each.image for each in scene)
        queries.append(KindQuery(photo.class_id, uris, region=Region(x / 2, y / 2, 0.5, 0.5)))
    return KindQueries(tuple(queries), clusterings)


def _scene(photos: Sequence[Image.Image]) -> bytes:
    """Four photos in the corners of one JPEG."""
    picture = Image.new("RGB", (2 * _SIDE_PX, 2 * _SIDE_PX))
    for photo, (x, y) in zip(photos, _CORNERS, strict=True):
        picture.paste(ImageOps.fit(photo, (_SIDE_PX, _SIDE_PX)), (x * _SIDE_PX, y * _SIDE_PX))
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=90)
    return content.getvalue()
