"""How often a version is right that an item is in the catalogue, or that nothing matches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image, ImageOps

from immr.data.pictures import picture_files
from immr.datasets.labelled_set import DatasetPhoto, LabelledSet
from immr.evaluation.matches.calibrate import FirstHits, LabelledEmbeddings, calibrate, first_hits
from immr.evaluation.matches.photos import LabelledPictures, embed_with_textures, fitted, labelled
from immr.evaluation.matches.rule import MatchRecipe, MatchRule
from immr.model.model_card import Card
from immr.types import FloatArray, Match

RECIPE = MatchRecipe(min_photos=30)  # an untrained version has few correct first hits
OTHER_PHOTOS = 150
PLAIN_PICTURES = 30
SIDE_PX = 320


def matches(
    folder: Path,
    of_shop: LabelledSet,
    documents_ND: FloatArray,
    photos: Sequence[DatasetPhoto],
    others: LabelledSet,
) -> dict[str, float]:
    """Shares of photos, each by a rule that was calibrated without the photos of its class.

    The classes are halved, and each half calibrates the rule of the other.

    Args:
        folder: of the version.
        of_shop: the catalogue, and training photos.
        documents_ND: embeddings of its items.
        photos: held out.
        others: a set from another domain, whose photos should find nothing.
    """
    number_of = {item.item_id: number for number, item in enumerate(of_shop.items)}

    def pictures(some: Sequence[DatasetPhoto]) -> LabelledPictures:
        return LabelledPictures([each.image for each in some], [number_of[each.item_id] for each in some])

    documents = LabelledEmbeddings(documents_ND, np.arange(len(documents_ND)))
    catalogue = LabelledPictures([item.image for item in of_shop.items], range(len(of_shop.items)))
    training_photos = fitted(folder, pictures(of_shop.split("train")), catalogue)
    held_out, changed = (labelled(folder, pictures(photos), changed) for changed in (False, True))
    drawings = others.split("val")[:: -(-len(others.split("val")) // OTHER_PHOTOS)]
    elsewhere = {
        "other_domain_none": embed_with_textures(folder, [drawing.image for drawing in drawings]),
        "coloured_drawing_none": _embedded(folder, _coloured(drawings)),
        "plain_picture_none": _embedded(folder, _plain_pictures()),
        "catalogue_picture_none": embed_with_textures(folder, catalogue.uris),
    }
    shares: dict[str, list[bool]] = {}
    begin = Card.read(folder).model.plain_begin
    for half in range(2):
        measured_N = held_out.classes_N % 2 == half
        rule = calibrate(held_out.some(~measured_N), documents, training_photos, RECIPE, begin)
        assert rule is not None, "the split has too few photos"
        found = {
            **_known(rule, held_out.some(measured_N), documents, begin),
            **{name: _none(rule, *rows, documents, begin) for name, rows in elsewhere.items()},
            "photo_none": _none(rule, *_rows(held_out.some(measured_N)), documents, begin),
            "changed_photo_none": _none(rule, *_rows(changed.some(measured_N)), documents, begin),
        }
        for name, values in found.items():
            shares.setdefault(name, []).extend(values)
    return {name: float(np.mean(values)) for name, values in shares.items()}


def _rows(photos: LabelledEmbeddings) -> tuple[FloatArray, FloatArray | None]:
    return photos.rows_ND, photos.textures_NT


def _none(
    rule: MatchRule,
    rows_ND: FloatArray,
    textures_NT: FloatArray | None,
    documents: LabelledEmbeddings,
    begin: int,
) -> list[bool]:
    """Of each photo, whether it is called none because it is outside the domain."""
    photos = LabelledEmbeddings(rows_ND, np.zeros(len(rows_ND), np.int64))
    outside_N = _outside(rule, rows_ND, textures_NT)
    matches = _matches(rule, first_hits(photos, documents, begin), outside_N)
    return [outside and match == "none" for match, outside in zip(matches, outside_N, strict=True)]


def _matches(rule: MatchRule, hits: FirstHits, outside_Q: Sequence[bool]) -> list[Match]:
    closeness_Q = hits.closeness_Q(rule)
    return [rule.match(*each) for each in zip(hits.cosine_Q, closeness_Q, outside_Q, strict=True)]


def _outside(rule: MatchRule, rows_ND: FloatArray, textures_NT: FloatArray | None) -> list[bool]:
    textures = [None] * len(rows_ND) if textures_NT is None else list(textures_NT)
    return [not rule.domain.contains(*row) for row in zip(rows_ND, textures, strict=True)]


def _known(
    rule: MatchRule, photos: LabelledEmbeddings, documents: LabelledEmbeddings, begin: int
) -> dict[str, list[bool]]:
    """Of photos of the shop: whether the first hit is exact, with the item in the catalogue and without."""
    outside_Q = _outside(rule, *_rows(photos))
    hits = first_hits(photos, documents, begin)
    called = _matches(rule, hits, outside_Q)
    missing = _matches(rule, first_hits(photos, documents, begin, without_own=True), outside_Q)
    return {
        "exact_recall": [
            match == "exact" for match, right in zip(called, hits.right_Q, strict=True) if right
        ],
        "not_in_catalogue_recall": [match != "exact" for match in missing],
        "missing_item_none": [match == "none" for match in missing],
    }


def _embedded(folder: Path, pictures: Sequence[Image.Image]) -> tuple[FloatArray, FloatArray | None]:
    with TemporaryDirectory() as place:
        files = [str(Path(place) / f"{number}.png") for number in range(len(pictures))]
        for picture, file in zip(pictures, files, strict=True):
            picture.save(file)
        return embed_with_textures(folder, files)


def _coloured(drawings: Sequence[DatasetPhoto]) -> list[Image.Image]:
    """Drawings in one colour on another."""
    generator = np.random.default_rng(0)
    coloured = []
    for drawing in drawings:
        ink, paper = (tuple(generator.integers(0, 256, 3).tolist()) for _ in range(2))
        coloured.append(
            ImageOps.colorize(picture_files.load(drawing.image, SIDE_PX).convert("L"), ink, paper)
        )
    return coloured


def _plain_pictures() -> list[Image.Image]:
    """Even greys from black on, noise, and gradients."""
    generator = np.random.default_rng(0)
    ramp = np.linspace(0, 255, SIDE_PX).astype(np.uint8)
    pictures = []
    for number in range(PLAIN_PICTURES):
        grey = np.full((SIDE_PX, SIDE_PX, 3), 8 * number, dtype=np.uint8)
        noise = generator.integers(0, 256, grey.shape, dtype=np.uint8)
        gradient = np.broadcast_to(np.roll(ramp, 10 * number)[None, :, None], grey.shape)
        pictures.append(Image.fromarray((grey, noise, gradient)[number % 3]))
    return pictures
