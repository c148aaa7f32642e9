"""A real encoder, collection and search; every colour is a class."""

from __future__ import annotations

from pathlib import Path

import pytest

from immr.data.training_set import LabelledPhoto
from immr.evaluation.gate_recipe import GateRecipe
from immr.evaluation.queries.kinds import KINDS
from immr.model.documents import PictureEmbeddings
from immr.search.evaluate_by_kind import evaluate_by_kind, searcher_of
from immr.search.ranking import RankingRecipe
from tests.support import tiny_version

RECIPE = GateRecipe(bootstrap_rounds=50)


@pytest.mark.parametrize("with_texts", [False, True])
def test_each_kind_has_metrics_with_intervals(tmp_path: Path, with_texts: bool) -> None:
    folder = tiny_version.write_files(tmp_path / "version")
    if with_texts:
        tiny_version.write_text_encoder(folder)
    items = tiny_version.items(tmp_path / "pictures")
    classes = list(range(len(items)))
    photos = [LabelledPhoto(f"q{row}", item.image, row, item.item_id) for row, item in enumerate(items)]
    documents = PictureEmbeddings.one_each(tiny_version.embed(folder, items))
    with searcher_of(tiny_version.version(), folder, items, documents, RankingRecipe()) as searcher:
        found = evaluate_by_kind(searcher, KINDS, photos, items, classes, RECIPE)
        few = evaluate_by_kind(searcher, ["box"], photos[:3], items, classes, RECIPE)
    assert tuple(found) == KINDS
    assert [found[kind].intervals["recall@1"].mean for kind in ("photo", "box")] == [1.0, 1.0]
    assert found["text"].intervals["recall@5"].mean == 1.0
    assert found["photo+text"].queries == len(photos) and found["text"].clusters == "5 classes"
    assert few["box"].intervals == {} and "four classes" in few["box"].reason
