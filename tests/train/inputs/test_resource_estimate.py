"""What training needs: features on disk, the classifier in memory."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from immr.machine.capacity import GIB
from immr.model.encoders.by_name import image_encoder_spec, text_encoder_spec
from immr.model.features.text_features import document_text
from immr.model.model_recipe import ModelRecipe
from immr.recipes import RECIPES
from immr.train.inputs.resource_estimate import need
from immr.train.train_recipe import TrainRecipe
from immr.types import Item

F = image_encoder_spec("efficientnet-lite0").dim
MODEL, TRAIN = ModelRecipe(fusion="image"), TrainRecipe(views=2)
ITEM = Item("a", "A" * 400, "", "", "a.jpg", 1.0, datetime(2025, 1, 1, tzinfo=UTC))


def test_features_are_on_disk_once():
    assert need(10, [ITEM] * 5, MODEL, TRAIN).disk_bytes == 2 * 2 * F * (10 + 5)
    with_text = need(10, [ITEM] * 5, replace(MODEL, fusion="concept_slots"), TRAIN)
    assert with_text.disk_bytes == pytest.approx(2 * (2 * F * 15 + 5 * 102 * 384))


def test_memory_grows_with_classes_and_falls_with_sampling():
    few, many = (need(100, [ITEM] * count, MODEL, TRAIN).memory_bytes for count in (10, 200_000))
    sampled = need(100, [ITEM] * 200_000, MODEL, replace(TRAIN, negative_rate=0.01)).memory_bytes
    assert few < sampled < many


def test_fine_tuning_and_processes_need_more():
    from immr.recipes import grocery

    one, two = (need(1, [ITEM], MODEL, replace(TRAIN, processes=count)).memory_bytes for count in (1, 2))
    assert one < two < need(1, [ITEM], MODEL, grocery().train).memory_bytes


def test_each_process_has_the_text_encoder_in_memory_if_the_fusion_reads_texts() -> None:
    with_text = replace(MODEL, fusion="concept_slots")
    more = [
        need(1, [ITEM], with_text, replace(TRAIN, processes=count)).memory_bytes
        - need(1, [ITEM], MODEL, replace(TRAIN, processes=count)).memory_bytes
        for count in (1, 2)
    ]
    weights = text_encoder_spec(MODEL.text_encoder).weights_bytes
    assert weights > 80e6 and weights < more[0] < weights + GIB and more[1] == pytest.approx(2 * more[0])


def test_towers_that_only_fine_tuning_trains_need_features_of_a_sample_of_the_photos():
    straight = replace(TRAIN, epochs=0)
    few, many = (need(count, [ITEM], MODEL, straight) for count in (10_000, 1_000_000))
    assert few.disk_bytes == many.disk_bytes < need(10_000, [ITEM], MODEL, TRAIN).disk_bytes


def test_the_table_in_the_docs_has_these_estimates() -> None:
    recipe = RECIPES["concept"]()
    train = replace(recipe.train, processes=2)
    letters = (50 - 2) * 4  # 50 tokens
    item = replace(ITEM, title="A" * letters)
    assert len(document_text(item)) == letters
    page = (Path(__file__).parents[3] / "docs" / "scale.md").read_text(encoding="utf-8")
    rows = [
        line.strip("| ").split(" | ")
        for line in page.splitlines()
        if re.match(r"\| [\d,]+ \| [\d,]+ \|", line)
    ]
    assert len(rows) == 4
    for items, photos, _, _, estimate, _ in rows:
        found = need(_number(photos), [item] * _number(items), recipe.model, train)
        assert f"{found.memory_bytes / GIB:.1f} / {found.disk_bytes / GIB:.1f}" == estimate


def _number(text: str) -> int:
    return int(text.replace(",", ""))
