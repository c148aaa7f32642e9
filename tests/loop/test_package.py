from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest

from immr import recipes
from immr.errors import PackagingError
from immr.evaluation.matches.rule import MATCH_RULE
from immr.loop.package import package
from immr.packaging import bento
from immr.packaging.version_file import VersionFile
from immr.search.ranker import Ranker
from immr.search.ranking import RankingRecipe
from immr.search.trees import Trees
from immr.settings import Settings
from immr.types import ModelVersion
from immr.wiring import Parts
from tests.support import tiny_version


class Files:
    """A registry that has one version's files."""

    def __init__(self, folder: Path, rule: Path | None = None) -> None:
        self._folder = folder
        self._rule = rule

    def fetch(self, version: ModelVersion, cache_dir: Path) -> Path:
        return self._folder

    @contextmanager
    def attached(self, version: ModelVersion, name: str) -> Iterator[Path | None]:
        assert name == MATCH_RULE
        yield self._rule


def test_the_bento_has_the_version_its_rule_and_the_ranking_of_the_recipe(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    (tmp_path / "rule").write_bytes(b"rule")
    files = Files(tiny_version.write_files(tmp_path / "version"), tmp_path / "rule")
    parts = Parts.of(settings, registry=files)
    recipe = recipes.by_name("smoke")
    made = package(parts, tiny_version.version(7), recipe)
    assert made.bento == "immr-search:immr-7"
    assert made.sentence == (
        "immr-search:immr-7 is built. It has no text encoder (words find only items that contain them), no learned "
        "ranker (hand-tuned weights order its hits)"
    )
    again = package(parts, tiny_version.version(7), recipe)
    assert again.reused and "reused, because nothing has changed" in again.sentence
    folder = settings.bento_home / "bentos" / "immr-search" / "immr-7" / "src" / "version"
    assert VersionFile.read(folder).ranking == recipe.ranking
    assert (folder / MATCH_RULE).read_bytes() == b"rule"


def test_a_bento_that_is_built_again_names_the_processes_that_keep_the_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = iter(["first", "first", "first", "other"])  # before and after each packaging
    monkeypatch.setattr(bento, "build", lambda *_, **__: "immr-search:immr-7")
    monkeypatch.setattr("immr.loop.package.built_content", lambda *_: next(contents))
    parts = Parts.of(
        Settings(home=tmp_path / "home"), registry=Files(tiny_version.write_files(tmp_path / "version"))
    )
    version, recipe = tiny_version.version(7), recipes.by_name("smoke")
    parts.deployer.apply(version, "immr-search:immr-7", "champion")
    assert "keep the earlier Bento" not in package(parts, version, recipe).sentence
    assert package(parts, version, recipe).sentence.endswith(
        "Running processes of immr-7 keep the earlier Bento until they restart, or until "
        "`immr deploy --model immr-7` replaces them"
    )


def test_a_ranker_brings_the_hand_weights_that_it_was_learned_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned_on = RankingRecipe(ctr_weight=0.7)
    folder = tiny_version.write_files(tmp_path / "version")
    Ranker({}, learned_on, 1.0, Trees([])).write(folder)
    packaged: list[RankingRecipe] = []

    def build(*_: object, ranking: RankingRecipe, **__: object) -> str:
        packaged.append(ranking)
        return "immr-search:immr-7"

    monkeypatch.setattr(bento, "build", build)
    parts = Parts.of(Settings(home=tmp_path / "home"), registry=Files(folder))
    package(parts, tiny_version.version(7), recipes.by_name("smoke"))
    assert packaged == [learned_on]


def test_a_bento_goes_to_the_object_store_of_the_deployer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = []
    monkeypatch.setattr("immr.packaging.bento.build", lambda version, *_, **__: f"immr-search:{version.id}")
    monkeypatch.setattr("immr.packaging.upload.upload", lambda *arguments: copied.append(arguments[1:]))
    for url in (
        "local://",
        "kserve://?cpu=2",
        "kserve://shop?storage=s3://shop/bentos&cpu=2",
        "kserve://?storage=oci://registry.example/immr",
    ):
        parts = Parts.of(Settings(home=tmp_path, deploy_url=url), registry=Files(tmp_path))
        made = package(parts, tiny_version.version(7), recipes.by_name("smoke"))
        assert made.bento == "immr-search:immr-7"
        assert made.copied_to == dict(parse_qsl(urlsplit(url).query)).get("storage", "")
    assert copied == [
        ("immr-search:immr-7", "s3://shop/bentos"),
        ("immr-search:immr-7", "oci://registry.example/immr"),
    ]


def test_a_version_without_its_encoder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "version").mkdir()
    parts = Parts.of(Settings(home=tmp_path / "home"), registry=Files(tmp_path / "version"))
    with pytest.raises(PackagingError, match=r"card\.json|query_encoder\.onnx"):
        package(parts, tiny_version.version(7), recipes.by_name("smoke"))
