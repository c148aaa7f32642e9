from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from immr.data.training_set import LabelledPhoto
from immr.evaluation.evaluate import Evaluation, evaluate
from immr.evaluation.gallery import choose, thumbnail, write_gallery
from immr.evaluation.gate import gate
from immr.evaluation.recipe import GateRecipe
from immr.types import Item

RECIPE = GateRecipe(bootstrap_rounds=100)
Model = Callable[[float], Evaluation]
VOID = {"meta", "img", "link", "br"}


class Page(HTMLParser):
    """Collects pictures and checks that tags close."""

    def __init__(self) -> None:
        super().__init__()
        self.pictures: list[dict[str, str | None]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.pictures.append(dict(attrs))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def read(path: Path) -> tuple[str, Page]:
    text = path.read_text()
    page = Page()
    page.feed(text)
    assert page.open == []
    return text, page


def test_the_page_shows_numbers_verdict_and_answers(model: Model, items: list[Item], tmp_path: Path) -> None:
    candidate, champion = model(0.8), model(1.5)
    verdict = gate(candidate, champion, RECIPE)
    out = write_gallery(
        candidate,
        items,
        tmp_path / "g.html",
        name="immr-2",
        verdict=verdict,
        comparisons={"immr-1": champion},
    )
    text, page = read(out)
    assert verdict.sentence.replace("'", "&#39;") in text
    for evaluation in (candidate, champion):
        interval = evaluation.intervals["recall@1"]
        assert f"{interval.mean:.3f} <small>{interval.low:.3f}–{interval.high:.3f}</small>" in text
    assert "Thing 3 &lt;b&gt;&amp;&lt;/b&gt;" in text
    assert "Thing 3 <b>" not in text
    assert text.count('<section class="query">') == 40
    assert len(page.pictures) == 40 * 7
    assert all(
        picture["alt"] and str(picture["src"]).startswith("data:image/jpeg") for picture in page.pictures
    )
    assert not re.search(r'(src|href)="(?!data:)', text)
    assert "prefers-color-scheme: dark" in text
    assert "· immr-1: rank " in text
    first_bad, last_good = text.index("✗ right item at rank"), text.rindex("✓ right at once")
    assert first_bad < last_good


def test_the_page_needs_neither_champion_nor_verdict(model: Model, items: list[Item], tmp_path: Path) -> None:
    text, _ = read(write_gallery(model(0.0), items, tmp_path / "g.html", max_queries=3))
    assert "0 of 60 photos have a wrong first answer. Shown are 3" in text
    assert 'class="verdict' not in text


def test_a_picture_that_cannot_be_read_is_a_gap(model: Model, items: list[Item], tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    lost = [dataclasses.replace(item, image=str(broken)) for item in items[:-1]]  # and one item is gone
    text, page = read(write_gallery(model(0.0), lost, tmp_path / "g.html", max_queries=5))
    assert len(page.pictures) == 5
    assert text.count("picture not readable") == 5 * 6
    assert "i12" in text


def test_the_file_stays_small_even_with_noisy_photos(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    when = datetime(2025, 1, 1, tzinfo=UTC)
    for number in range(45):
        pixels = generator.integers(0, 256, (96, 128, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    names = [str(tmp_path / f"{number}.png") for number in range(45)]
    items = [Item(f"i{number}", "t", "", "a", name, 1.0, when) for number, name in enumerate(names)]
    queries = [LabelledPhoto(f"q{number}", name, number) for number, name in enumerate(names)]
    embeddings = generator.normal(size=(45, 4)).astype(np.float32)
    evaluation = evaluate(embeddings, queries, embeddings, items, list(range(45)), RECIPE)
    assert write_gallery(evaluation, items, tmp_path / "g.html").stat().st_size < 3_000_000


@pytest.mark.parametrize(
    ("ranks", "limit", "chosen"),
    [
        ([1, 5, 2, 1, 9], 4, [4, 1, 2, 0]),
        ([3, 5, 2, 4, 9], 2, [4, 1]),
        ([1, 1, 1, 1, 1], 3, [0, 2, 4]),
        ([1, 2], 10, [1, 0]),
        ([2, 3, 4, 5, 6, 1, 1], 4, [4, 3, 2, 5]),
        ([1], 0, []),
    ],
)
def test_failures_come_first_worst_first(ranks: list[int], limit: int, chosen: list[int]) -> None:
    assert choose(np.array(ranks), limit) == chosen


def test_a_thumbnail_is_small(pictures: Path) -> None:
    source = thumbnail(str(pictures / "0.png"))
    assert source.startswith("data:image/jpeg;base64,")
    assert len(source) < 4000
    assert thumbnail(str(pictures / "none.png")) == ""
