"""How often a version is right that an item is in the catalogue, or that nothing matches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from immr.datasets.labelled_set import DatasetPhoto, LabelledSet
from immr.evaluation.matches.calibrate import LabelledEmbeddings, calibrate, first_hits
from immr.evaluation.matches.rule import MatchRecipe, MatchRule
from immr.loop.evaluate import embed_photos
from immr.model.card import Card
from immr.types import FloatArray

RECIPE = MatchRecipe(min_photos=30)  # an untrained version has few correct first hits
TRAINING_PHOTOS = 600
OTHER_PHOTOS = 150
PLAIN_PICTURES = 30
SIDE_PX = 320


def matches(
    folder: Path,
    labelled: LabelledSet,
    documents_ND: FloatArray,
    photos: Sequence[DatasetPhoto],
    others: LabelledSet,
) -> dict[str, float]:
    """Shares of photos, each by a rule that was calibrated without the photos of its class.

    The classes are halved, and each half calibrates the rule of the other.

    Args:
        folder: of the version.
        labelled: the catalogue, and training photos.
        documents_ND: embeddings of its items.
        photos: held out.
        others: a set from another domain, whose photos should find nothing.
    """
    number_of = {item.item_id: number for number, item in enumerate(labelled.items)}

    def embedded(some: Sequence[DatasetPhoto]) -> LabelledEmbeddings:
        rows_ND = embed_photos(folder, [photo.image for photo in some], threads=1)
        return LabelledEmbeddings(rows_ND, np.array([number_of[photo.item_id] for photo in some]))

    documents = LabelledEmbeddings(documents_ND, np.arange(len(documents_ND)))
    training_photos = embedded(_spread(labelled.split("train"), TRAINING_PHOTOS))
    held_out = embedded(photos)
    other_photos = _spread(others.split("val"), OTHER_PHOTOS)
    foreign_ND = embed_photos(folder, [photo.image for photo in other_photos], threads=1)
    plain_ND = _plain_pictures(folder)
    shares: dict[str, list[bool]] = {}
    for half in range(2):
        measured_N = held_out.classes_N % 2 == half
        begin = Card.read(folder).model.plain_begin
        rule = calibrate(held_out.some(~measured_N), documents, training_photos, RECIPE, begin)
        assert rule is not None, "the split has too few photos"
        found = {
            **_known(rule, held_out.some(measured_N), documents),
            "other_domain_none": [not rule.domain.contains(row_D) for row_D in foreign_ND],
            "plain_picture_none": [not rule.domain.contains(row_D) for row_D in plain_ND],
        }
        for name, values in found.items():
            shares.setdefault(name, []).extend(values)
    return {name: float(np.mean(values)) for name, values in shares.items()}


def _known(
    rule: MatchRule, photos: LabelledEmbeddings, documents: LabelledEmbeddings
) -> dict[str, list[bool]]:
    """Of photos of the shop: whether the first hit is exact, with the item in the catalogue and without."""
    inside_Q = [rule.domain.contains(row_D) for row_D in photos.rows_ND]
    cosine_Q, right_Q = first_hits(photos, documents)
    missing_Q, _ = first_hits(photos, documents, without_own=True)
    called = [
        rule.match(cosine) if inside else "none" for cosine, inside in zip(cosine_Q, inside_Q, strict=True)
    ]
    missing = [
        rule.match(cosine) if inside else "none" for cosine, inside in zip(missing_Q, inside_Q, strict=True)
    ]
    return {
        "exact_recall": [match == "exact" for match, right in zip(called, right_Q, strict=True) if right],
        "not_in_catalogue_recall": [match != "exact" for match in missing],
        "missing_item_none": [match == "none" for match in missing],
    }


def _spread(photos: Sequence[DatasetPhoto], most: int) -> Sequence[DatasetPhoto]:
    return photos[:: -(-len(photos) // most)]


def _plain_pictures(folder: Path) -> FloatArray:
    """Embeddings of even greys from black on, of noise, and of gradients."""
    generator = np.random.default_rng(0)
    ramp = np.linspace(0, 255, SIDE_PX).astype(np.uint8)
    with TemporaryDirectory() as place:
        files = []
        for number in range(PLAIN_PICTURES):
            grey = np.full((SIDE_PX, SIDE_PX, 3), 8 * number, dtype=np.uint8)
            noise = generator.integers(0, 256, grey.shape, dtype=np.uint8)
            gradient = np.broadcast_to(np.roll(ramp, 10 * number)[None, :, None], grey.shape)
            files.append(str(Path(place) / f"{number}.png"))
            Image.fromarray((grey, noise, gradient)[number % 3]).save(files[-1])
        return embed_photos(folder, files, threads=1)
