"""Other sets made from a labelled one: a split inside `train`, fewer classes, wrong labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from immr.datasets.labelled_set import DatasetPhoto, LabelledSet

HELD_OUT_DESIGNERS, HELD_OUT_CLASSES = 8, 300


def held_out(labelled: LabelledSet, seed: int = 0) -> LabelledSet:
    """The same catalogue with a `train` and a `val` that are both made from `train`."""
    rng, train = np.random.default_rng(seed), labelled.split("train")
    designers = set(rng.choice(sorted({photo.source for photo in train}), HELD_OUT_DESIGNERS, replace=False))
    classes = set(rng.choice(sorted({photo.item_id for photo in train}), HELD_OUT_CLASSES, replace=False))
    kept = {photo.item_id for photo in train if photo.source not in designers}

    def placed(photo: DatasetPhoto) -> DatasetPhoto | None:
        if photo.item_id in classes:
            return photo._replace(split="val", unseen=True)
        if photo.source in designers:
            return photo._replace(split="val") if photo.item_id in kept else None
        return photo

    # items that the real `val` keeps unseen stay out of training here as well
    others = [photo._replace(split="left out") for photo in labelled.photos if photo.split != "train"]
    return replace(labelled, photos=[photo for photo in map(placed, train) if photo] + others)


def some_classes(labelled: LabelledSet, classes: int, seed: int = 0) -> LabelledSet:
    """The same data with the photos and documents of so many classes that have photos."""
    known = sorted({photo.item_id for photo in labelled.photos})
    kept = set(np.random.default_rng(seed).permutation(known)[:classes].tolist())
    return replace(
        labelled,
        items=[item for item in labelled.items if item.item_id in kept],
        photos=[photo for photo in labelled.photos if photo.item_id in kept],
    )


def mislabelled(labelled: LabelledSet, share: float, seed: int = 0) -> LabelledSet:
    """The same data with a share of the training photos moved to the class of another photo."""
    rng, photos = np.random.default_rng(seed), list(labelled.photos)
    rows = np.array([row for row, photo in enumerate(photos) if photo.split == "train"])
    for row, other in zip(rows, rng.permutation(rows), strict=True):
        if rng.random() < share:
            photos[row] = photos[row]._replace(item_id=labelled.photos[other].item_id)
    return replace(labelled, photos=photos)


def trained_classes(labelled: LabelledSet, classes: int, seed: int = 0) -> LabelledSet:
    """The same data with so many seen classes: a short training among all documents, with all unseen photos."""
    known = sorted({photo.item_id for photo in labelled.split("train")})
    kept = set(np.random.default_rng(seed).permutation(known)[:classes].tolist())
    return replace(
        labelled, photos=[photo for photo in labelled.photos if photo.unseen or photo.item_id in kept]
    )
