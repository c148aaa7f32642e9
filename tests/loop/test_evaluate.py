"""Evaluate: a real registry and query encoder; the champion is compared, and evaluations are computed once.

Documents have random embeddings: document towers have tests of their own.
"""

from __future__ import annotations

import dataclasses
import html
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from immr import recipes
from immr.data.training_set import TrainingSet
from immr.errors import DataError, RecipeError
from immr.evaluation.gate_recipe import GateRecipe
from immr.evaluation.matches.rule import MATCH_RULE, MatchRecipe, MatchRule
from immr.loop import evaluate as evaluating
from immr.loop.evaluate import GATE_PASSED, evaluate, evaluation_of
from immr.model import documents
from immr.registry.reports import published
from immr.settings import Settings
from immr.types import FloatArray, Item, ModelVersion
from immr.wiring import Parts, connect
from tests.support import tiny_version

RECIPE = dataclasses.replace(recipes.by_name("smoke"), gate=GateRecipe(bootstrap_rounds=50))


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of two untrained versions."""
    home = tmp_path_factory.mktemp("home")
    registry = connect(Settings(home=home)).registry
    for seed in (1, 2):
        folder = tiny_version.write_files(home / f"trained-{seed}")
        run_id = registry.runs.start("run", {}, key=str(seed))
        registry.register(
            folder,
            str(seed),
            run_id,
            dim=tiny_version.DIM,
            preprocessing_hash="p",
            manifest_hash="tiny",
            recipe="tiny",
        )
    return home


@pytest.fixture
def parts(registered: Path, tmp_path: Path) -> Parts:
    shutil.copytree(registered, tmp_path / "home")
    url = f"sqlite:///{registered}/mlflow/mlflow.db"
    parts = connect(Settings(home=tmp_path / "home", tracking_url=url))
    parts.registry.clear_roles()
    return parts


@pytest.fixture(autouse=True)
def _documents_have_random_embeddings(monkeypatch: pytest.MonkeyPatch) -> None:
    def encode(
        folder: Path, items: list[Item], cache_dir: Path, **_: object
    ) -> tuple[FloatArray, np.ndarray]:
        embeddings_ND = np.random.default_rng(0).standard_normal((len(items), tiny_version.DIM))
        unit_ND = (embeddings_ND / np.linalg.norm(embeddings_ND, axis=1, keepdims=True)).astype(np.float32)
        return unit_ND, np.ones(len(items), dtype=bool)

    monkeypatch.setattr(documents, "encode_each", encode)


@pytest.fixture
def versions(parts: Parts) -> list[ModelVersion]:
    return [parts.registry.get(f"immr-{number}") for number in (1, 2)]


@pytest.fixture
def reported(training_set: TrainingSet, tmp_path: Path) -> TrainingSet:
    """The training set with the report that governance writes."""
    shutil.copytree(training_set.folder, tmp_path / "set")
    (tmp_path / "set" / "report.html").write_text("governance")
    return TrainingSet(tmp_path / "set")


def test_the_first_version_has_no_champion_to_beat(
    parts: Parts, versions: list[ModelVersion], reported: TrainingSet, tmp_path: Path
) -> None:
    evaluated = evaluate(parts, versions[0], reported, RECIPE, tmp_path / "report.html")
    assert evaluated.champion is None
    assert evaluated.verdict.sentence in html.unescape((tmp_path / "report.html").read_text())
    (report,) = published(parts.settings.home)
    assert (report["kind"], report["version"]) == ("evaluation", "immr-1")


def test_a_candidate_is_compared_with_the_champion(
    parts: Parts, versions: list[ModelVersion], reported: TrainingSet, tmp_path: Path
) -> None:
    champion, candidate = versions
    parts.registry.set_role("champion", champion)
    evaluated = evaluate(parts, candidate, reported, RECIPE, tmp_path / "report.html")
    assert evaluated.champion is not None and evaluated.champion.id == champion.id
    assert champion.id in (tmp_path / "report.html").read_text()
    again = evaluate(parts, champion, reported, RECIPE, tmp_path / "report.html")
    assert again.champion is None  # nothing is compared with itself
    assert "this version is the champion" in again.verdict.sentence


def test_the_champion_keeps_the_verdict_that_promoted_it(
    parts: Parts, versions: list[ModelVersion], reported: TrainingSet, tmp_path: Path
) -> None:
    """A floor above its recall once made it a version that the gate stopped."""
    registry, champion = parts.registry, versions[0]
    promoted = {"gate": "It beat immr-0.", GATE_PASSED: "yes"}
    for name, value in promoted.items():
        registry.tag(champion, name, value)
    registry.set_role("champion", champion)
    strict = dataclasses.replace(RECIPE, gate=dataclasses.replace(RECIPE.gate, floor=1.0))
    assert not evaluate(parts, champion, reported, strict, tmp_path / "report.html").verdict.passed
    assert promoted.items() <= registry.tags(champion).items()


def test_an_evaluation_is_computed_once(
    parts: Parts, versions: list[ModelVersion], reported: TrainingSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = evaluation_of(parts, versions[0], reported, RECIPE)
    monkeypatch.setattr(evaluating, "_judged", None)
    assert evaluation_of(parts, versions[0], reported, RECIPE).means() == first.means()


def test_without_held_out_photos_there_is_nothing_to_evaluate(
    parts: Parts, versions: list[ModelVersion], reported: TrainingSet
) -> None:
    judgements = reported.folder / "judgements.parquet"
    pq.write_table(pq.read_table(judgements).slice(0, 0), judgements)
    with pytest.raises(DataError, match=r"no held-out photos.*--training-set"):
        evaluation_of(parts, versions[0], TrainingSet(reported.folder), RECIPE)


def test_the_rule_for_matches_is_attached_to_the_version(
    parts: Parts, versions: list[ModelVersion], reported: TrainingSet, tmp_path: Path
) -> None:
    recipe = dataclasses.replace(RECIPE, match=MatchRecipe(min_photos=1))
    evaluate(parts, versions[0], reported, recipe, tmp_path / "report.html")
    with parts.registry.attached(versions[0], MATCH_RULE) as file:
        assert file is not None and MatchRule.read(file) is not None
    evaluate(parts, versions[1], reported, RECIPE, tmp_path / "report.html")  # with too few photos
    with parts.registry.attached(versions[1], MATCH_RULE) as file:
        assert file is None


def test_kinds_of_query_are_in_the_report_and_the_metrics(
    parts: Parts, versions: list[ModelVersion], reported: TrainingSet, tmp_path: Path
) -> None:
    evaluated = evaluate(parts, versions[0], reported, RECIPE, tmp_path / "report.html", ["photo", "text"])
    assert list(evaluated.kinds) == ["photo", "text"]
    assert evaluated.kinds["photo"].queries == len(reported.judgements)
    page = html.unescape((tmp_path / "report.html").read_text())
    assert "Kinds of query" in page and evaluated.kinds["text"].clusters in page


def test_a_misspelt_slice_of_the_gate_is_refused(
    parts: Parts, versions: list[ModelVersion], reported: TrainingSet, tmp_path: Path
) -> None:
    recipe = dataclasses.replace(RECIPE, gate=GateRecipe(slice_margins={"Thing": -0.05}))
    with pytest.raises(RecipeError, match="'Thing'"):
        evaluate(parts, versions[0], reported, recipe, tmp_path / "report.html")


def test_a_report_that_cannot_be_written_is_noticed_before_the_work(
    parts: Parts,
    versions: list[ModelVersion],
    reported: TrainingSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def work(*_: object) -> None:
        pytest.fail("the photos were encoded first")

    monkeypatch.setattr(evaluating, "evaluation_of", work)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        evaluate(parts, versions[0], reported, RECIPE, tmp_path / "file" / "report.html")
