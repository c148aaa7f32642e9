"""Proposed regions on pictures whose things are known."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from immr.search.regions import overlap, propose

THINGS = {"red": (40, 60, 200, 220), "yellow": (420, 40, 600, 220), "blue": (250, 260, 450, 460)}


def picture_of_three() -> Image.Image:
    picture = Image.new("RGB", (640, 480), (150, 150, 150))
    draw = ImageDraw.Draw(picture)
    for colour, (left, top, right, bottom) in THINGS.items():
        draw.rectangle((left, top, right, bottom), fill=colour)
        draw.ellipse((left + 40, top + 40, right - 40, bottom - 40), fill="white")
    return picture


def corners(picture: Image.Image, most: int) -> np.ndarray:
    """(N, 4) left, top, right, bottom in pixels."""
    regions = [proposal.region for proposal in propose(picture, most)]
    relative = [(each.x, each.y, each.x + each.width, each.y + each.height) for each in regions]
    return np.array(relative).reshape(-1, 4) * [*picture.size, *picture.size]


def test_each_thing_has_a_proposal_and_the_best_ones_come_first() -> None:
    picture = picture_of_three()
    found = corners(picture, 5)
    for thing in THINGS.values():
        assert overlap(found, np.array(thing)).max() > 0.5
    [first] = corners(picture, 1)
    assert max(overlap(first[None], np.array(thing))[0] for thing in THINGS.values()) > 0.5


def test_scores_fall_and_proposals_stay_within_the_photo_and_apart() -> None:
    picture = picture_of_three()
    scores = [proposal.score for proposal in propose(picture, 5)]
    assert scores == sorted(scores, reverse=True) and scores[-1] > 0 and scores[0] <= 1
    found = corners(picture, 5)
    assert found.min() >= 0 and (found[:, 2:] <= [640, 480]).all()
    for row in range(len(found) - 1):
        assert overlap(found[row + 1 :], found[row]).max() < 0.35


@pytest.mark.parametrize("size", [(300, 200), (1, 1), (2000, 10), (10, 900)])
def test_an_even_picture_has_no_regions(size: tuple[int, int]) -> None:
    assert propose(Image.new("RGB", size, (90, 120, 30)), 5) == []


def test_a_narrow_picture_has_regions() -> None:
    picture = Image.new("RGB", (900, 60), "white")
    ImageDraw.Draw(picture).rectangle((400, 10, 440, 50), fill="red")
    assert overlap(corners(picture, 5), np.array((400, 10, 440, 50))).max() > 0.5
