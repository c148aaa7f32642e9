"""A/A: the copy of the champion, on a real registry, deployer and queue; `package` and `index` are stand-ins."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from mlflow.tracking import MlflowClient
from typer.testing import CliRunner

from immr.cli import app
from immr.cli.options import report_deployed
from immr.errors import ExperimentError, RegistryError
from immr.evaluation.matches.rule import MATCH_RULE
from immr.experiment.file import load
from immr.loop import govern, index, package
from immr.loop.evaluate import GATE_PASSED
from immr.loop.experiment.aa import COPY_OF, deploy_copy
from immr.loop.experiment.queue import Deployed
from immr.loop.experiment.ramp import stop
from immr.loop.experiment.start import start
from immr.loop.status import models, status
from immr.packaging.bento import tag_of
from immr.settings import Settings
from immr.types import ModelVersion
from immr.wiring import Parts, connect
from tests.support.two_versions import EveryCollection, give_roles, move, packaged_parts, ready


@pytest.fixture
def champion(
    settings: Settings, two_registered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """immr-1 is champion, with a gate's verdict and a match rule."""
    shutil.copytree(two_registered.parent / "artifacts", tmp_path / "mlflow" / "artifacts")
    give_roles(settings, {"champion": "immr-1"})
    registry = connect(settings).registry
    registry.tag(registry.get("immr-1"), GATE_PASSED, "yes")
    (tmp_path / MATCH_RULE).write_text("{}")
    registry.attach(registry.get("immr-1"), tmp_path / MATCH_RULE)

    def built(parts: Parts, version: ModelVersion, recipe: object) -> SimpleNamespace:
        packaged_parts(settings, version.id)
        return SimpleNamespace(bento=tag_of(version.id))

    monkeypatch.setattr(govern, "training_set_of", lambda parts, version: SimpleNamespace(items=[]))
    monkeypatch.setattr(package, "package", built)
    monkeypatch.setattr(index, "index", lambda parts, version, items: None)
    return settings


def _printed(parts: Parts, deployed: Deployed, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    report_deployed(parts, deployed, as_json=False)
    return " ".join(capsys.readouterr().out.split())


def test_a_copy_of_the_champion_becomes_challenger(
    champion: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = Parts.of(champion, index=EveryCollection())
    deployed = deploy_copy(parts)
    assert isinstance(deployed, Deployed)
    assert (deployed.deployment.version_id, deployed.deployment.role) == ("immr-3", "challenger")
    original, copy = (parts.registry.get(each) for each in ("immr-1", "immr-3"))
    assert copy.manifest_hash == original.manifest_hash and copy.key != original.key
    tags = parts.registry.tags(copy)
    assert (tags[COPY_OF], tags[GATE_PASSED]) == ("immr-1", "yes")
    with parts.registry.attached(copy, MATCH_RULE) as rule:
        assert rule is not None and rule.read_text() == "{}"
    assert [each.copy_of for each in models(connect(champion))] == ["immr-1", "", ""]
    url = champion.tracking_url
    client = MlflowClient(tracking_uri=url, registry_uri=url)
    assert client.get_model_version("immr", "3").description.startswith("A copy of immr-1 for an A/A test")
    assert [each.copy_of for each in status(parts).serving] == ["", "immr-1"]
    assert _printed(parts, deployed, capsys).startswith(
        "immr-3, a copy of immr-1, is deployed as challenger;"
    )
    again = deploy_copy(parts)
    assert isinstance(again, Deployed) and again.deployment == deployed.deployment
    assert len(parts.registry.versions()) == 3, "the copy is reused"


def test_a_copy_that_was_left_half_made_is_completed(
    champion: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = Parts.of(champion, index=EveryCollection())
    with monkeypatch.context() as broken:
        refusal = RegistryError("MLflow does not answer")
        broken.setattr(type(parts.registry), "tag", Mock(side_effect=refusal))
        with pytest.raises(RegistryError, match="does not answer"):
            deploy_copy(parts)
    assert deploy_copy(parts).to_json()["version_id"] == "immr-3"
    tags = parts.registry.tags(parts.registry.get("immr-3"))
    assert (tags[COPY_OF], tags[GATE_PASSED]) == ("immr-1", "yes")
    assert len(parts.registry.versions()) == 3


def test_the_copy_is_tested_like_any_other_version(champion: Settings) -> None:
    deploy_copy(Parts.of(champion, index=EveryCollection()))
    with ready("immr-1") as one, ready("immr-3") as other:
        move(champion, {"immr-1": one, "immr-3": other})
        begun = start(connect(champion))
    assert [side.model_version for side in begun.variants] == ["immr-1", "immr-3"]
    stop(connect(champion))


def test_a_version_is_never_tested_against_itself(champion: Settings) -> None:
    refused = CliRunner(env={"IMMR_HOME": str(champion.home)}).invoke(
        app, ["experiment", "start", "--share", "50%"]
    )
    assert "with `immr experiment aa`" in str(refused.exception)
    with ready("immr-1") as one, ready("immr-2") as other:
        give_roles(champion, {"challenger": "immr-2"})
        move(champion, {"immr-1": one, "immr-2": other})
        start(connect(champion))
    content = json.loads(champion.experiment_file.read_text())
    content["variants"][1]["model_version"] = "immr-1"
    champion.experiment_file.write_text(json.dumps(content))
    with pytest.raises(ExperimentError, match=r"variants share a version .*`immr experiment aa`"):
        load(champion.experiment_file)


def test_without_a_champion_there_is_nothing_to_copy(settings: Settings) -> None:
    with pytest.raises(ExperimentError, match="there is no champion to copy"):
        deploy_copy(connect(settings))
