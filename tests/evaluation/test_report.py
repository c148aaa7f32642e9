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
from immr.evaluation.evaluate import evaluate
from immr.evaluation.gate import gate
from immr.evaluation.gate_recipe import GateRecipe
from immr.evaluation.report import Background, ablation, write_report
from immr.evaluation.result import Evaluation
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
    out = write_report(
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
    for part in champion.slices.values():
        interval = part.intervals["recall@10"]
        shown = (
            f'<td class="soft">{interval.mean:.3f} <small>{interval.low:.3f}–{interval.high:.3f}</small></td>'
        )
        assert shown in text
    assert "Thing 3 &lt;b&gt;&amp;&lt;/b&gt;" in text
    assert "Thing 3 <b>" not in text
    assert text.count('<section class="query">') == 40
    assert len(page.pictures) == 40 * 7 + text.count('<li>\n<figure class="is-right">') * 2
    assert all(
        picture["alt"] and str(picture["src"]).startswith("data:image/jpeg") for picture in page.pictures
    )
    assert not re.search(r'(src|href)="(?!data:|#)|url\(|@import|<script', text)
    assert "prefers-color-scheme: dark" in text
    assert "· immr-1: rank " in text
    first_bad, last_good = text.index("✗ correct item at rank"), text.rindex("✓ correct</span>")
    assert first_bad < last_good


def test_it_starts_with_a_summary(model: Model, items: list[Item], tmp_path: Path) -> None:
    candidate = model(1.5)
    verdict = gate(candidate, model(0.8), RECIPE)
    text, _ = read(write_report(candidate, items, tmp_path / "g.html", verdict=verdict))
    right = int((candidate.ranks == 1).sum())
    name, part = min(candidate.slices.items(), key=lambda slice: slice[1].intervals["recall@1"].high)
    summary = [
        'class="verdict',
        f"{right} of 60 photos</strong> have a correct first hit",
        f"Weakest slice: <strong>{name}</strong>, recall@1 {part.intervals['recall@1'].mean:.3f}",
        "Most frequent confusion: ",
        "Confidence intervals allow for photos of one class",
        '<h2 id="metrics">',
    ]
    places = [text.index(sentence) for sentence in summary]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        ({"hash": "a", "wrong_judgements": 0.12}, True),
        ({"hash": "a", "wrong_judgements": None}, False),  # people judged
        ({"hash": "a"}, False),  # of an earlier release
    ],
)
def test_it_says_how_far_reported_and_judged_recall_may_differ(
    model: Model, items: list[Item], tmp_path: Path, manifest: dict[str, object], said: bool
) -> None:
    candidate = model(1.5)
    reported = candidate.intervals["recall@1"].mean
    page = write_report(candidate, items, tmp_path / "g.html", background=Background(manifest=manifest))
    between = f"between about {reported - 0.12:.3f} and {min(reported + 0.12, 1):.3f}"
    text, _ = read(page)
    assert (between in text and "an estimated 12.0 % are wrong" in text) == said
    assert ("If people judged" in text) == said


@pytest.mark.parametrize(
    ("held_out", "sentence"),
    [
        ({"days_after_training": [1.0, 9.25]}, "taken 1.0 to 9.2 days after the last training photo"),
        ({"days_after_training": None}, "from the same days as the training photos"),
        (None, ""),  # people judged
    ],
)
@pytest.mark.parametrize("unseen", [0.0, 0.1])
def test_it_says_when_held_out_photos_were_taken(
    model: Model,
    items: list[Item],
    tmp_path: Path,
    held_out: dict[str, object] | None,
    sentence: str,
    unseen: float,
) -> None:
    recipe = {"unseen_class_share": unseen}
    background = Background(manifest={"hash": "a", "recipe": recipe, "held_out": held_out})
    text, _ = read(write_report(model(1.5), items, tmp_path / "g.html", background=background))
    assert sentence in text
    assert ("These photos " in text) == bool(sentence)
    assert ("unseen classes are from all days" in text) == (unseen > 0 and "after" in sentence)


def test_the_page_works_without_champion_and_verdict(model: Model, items: list[Item], tmp_path: Path) -> None:
    text, _ = read(write_report(model(0.0), items, tmp_path / "g.html", max_queries=3))
    assert "0 of 60 photos have a wrong first hit. 3 are shown" in text
    assert 'class="verdict' not in text


def test_an_unreadable_picture_leaves_a_gap(model: Model, items: list[Item], tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    lost = [dataclasses.replace(item, image=str(broken)) for item in items[:-1]]  # and one item is gone
    text, page = read(write_report(model(0.0), lost, tmp_path / "g.html", max_queries=5))
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
    assert write_report(evaluation, items, tmp_path / "g.html").stat().st_size < 3_000_000


def test_background_is_shown(model: Model, items: list[Item], tmp_path: Path) -> None:
    evaluation = model(1.0)
    step = {"name": "clean <labels>", "table": "clicks", "rows_in": 1200, "rows_out": 1100}
    manifest = {
        "hash": "0123456789abcdef01234",
        "classes": 12,
        "outputs": {"queries": {"rows": 50}, "items": {"rows": 13}},
        "steps": [{**step, "dropped": {"weak": 100}, "note": ""}],
    }
    curves = {"loss": [3.0, 2.0, 1.5], "loss_query": [2.0, 1.2, 0.9], "learning_rate": [0.1, 0.2, 0.1]}
    known = Background(curves, manifest, {"immr-1 (image_only)": model(1.5), "immr-2 (concept)": model(0.0)})
    text, _ = read(write_report(evaluation, items, tmp_path / "r.html", name="immr-3", background=known))
    assert text.count('<svg class="chart"') == 3
    assert "loss_query" in text and "learning_rate" not in text
    assert "50 photos and 13 items in 12 classes; manifest 0123456789abcdef." in text
    assert "clean &lt;labels&gt;" in text and "100 weak" in text
    versions = text[text.index('id="ablation"') : text.index('id="training"')]
    places = [versions.index(name + "<") for name in ("immr-2 (concept)", "immr-3", "immr-1 (image_only)")]
    assert places == sorted(places)
    assert "Read as a probability" in text
    for part in evaluation.calibration.bins:
        assert f"{part.low:.1f} to {part.high:.1f}</th><td>{part.answers}</td>" in text
    assert "Confusions</h2>" in text


def test_a_failing_slice_is_marked(model: Model, items: list[Item], tmp_path: Path) -> None:
    candidate, champion = model(2.0), model(0.0)
    verdict = gate(candidate, champion, GateRecipe(bootstrap_rounds=100, slice_queries=20, slice_clusters=4))
    text, _ = read(write_report(candidate, items, tmp_path / "r.html", verdict=verdict))
    assert text.count("✗ fails") == sum(part.failed for part in verdict.slices.values()) > 0


def test_versions_evaluated_on_other_photos_are_left_out(model: Model) -> None:
    evaluation = model(1.0)
    elsewhere = dataclasses.replace(model(0.0), documents_hash="other")
    fewer = dataclasses.replace(model(0.0), queries=evaluation.queries[:-1])
    rows = ablation("ours", evaluation, {"elsewhere": elsewhere, "fewer": fewer, "same": model(0.0)})
    assert [row.name for row in rows] == ["same", "ours"]
    assert rows[0].difference is not None and rows[0].difference.mean > 0
