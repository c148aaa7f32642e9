"""Deploy: which role a version gets, and that a running test keeps its versions. Fakes stand in for the parts."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from immr.deploy.deployer import Deployment
from immr.errors import DeployError, ExperimentRunningError
from immr.experiment import changes
from immr.experiment.file import load, save
from immr.index.vector_index import Content
from immr.loop.deploy import deploy
from immr.packaging import upload
from immr.settings import Settings
from immr.types import CHALLENGER_ROLES, ModelVersion, Role
from immr.wiring import Parts


@dataclass
class FakeRegistry:
    held: dict[Role, ModelVersion] = field(default_factory=dict)
    tagged: dict[str, dict[str, str]] = field(default_factory=dict)

    def roles(self) -> dict[Role, ModelVersion]:
        return dict(self.held)

    def set_role(self, role: Role, version: ModelVersion, reason: str) -> None:
        self.held[role] = version

    def tags(self, version: ModelVersion) -> dict[str, str]:
        return self.tagged.get(version.id, {})


@dataclass
class FakeDeployer:
    deployed: dict[Role, str] = field(default_factory=dict)

    def apply(self, version: ModelVersion, bento: str, role: Role) -> Deployment:
        self.deployed[role] = version.id
        return Deployment(role, version.id, bento, "http://127.0.0.1:1")


def version(number: int) -> ModelVersion:
    return ModelVersion("immr", number, f"key-{number}", "run", 8, "p", "m", "concept")


@dataclass
class FakeIndex:
    missing: set[str] = field(default_factory=set)
    manifest_hash: str = ""

    def content(self, version_id: str) -> Content | None:
        return None if version_id in self.missing else Content(version_id, 0, self.manifest_hash)


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    for number in range(1, 6):
        bento = tmp_path / "bentoml" / "bentos" / "bento" / str(number)
        bento.mkdir(parents=True)
        (bento / "bento.yaml").touch()
    settings = Settings(home=tmp_path)
    return Parts.of(settings, registry=FakeRegistry(), deployer=FakeDeployer(), index=FakeIndex())


def begin_test(parts: Parts, champion: int, challenger: int) -> None:
    sides = [(f"immr-{number}", "http://127.0.0.1:1") for number in (champion, challenger)]
    save(
        changes.begin(sides[0], {"challenger": sides[1]}, 0.5, datetime.now(UTC)),
        parts.settings.experiment_file,
    )


def test_the_first_version_becomes_champion_and_the_next_challenger(parts: Parts) -> None:
    assert deploy(parts, version(1), "bento:1").role == "champion"
    assert deploy(parts, version(2), "bento:2").role == "challenger"
    assert deploy(parts, version(1), "bento:1").role == "champion"


def test_a_collection_of_another_registrys_version_is_not_deployed(parts: Parts) -> None:
    """Both shops called their first version immr-1, and its Bento would have refused the collection."""
    parts.index.manifest_hash = "of another shop"  # type: ignore[attr-defined]
    with pytest.raises(DeployError, match=r"immr-1 at IMMR_INDEX_URL belongs to another registry's immr-1"):
        deploy(parts, version(1), "bento:1")
    parts.index.manifest_hash = version(1).manifest_hash  # type: ignore[attr-defined]
    assert deploy(parts, version(1), "bento:1").role == "champion"


def test_a_bento_that_the_object_store_does_not_have_is_not_deployed(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []
    monkeypatch.setattr(upload, "missing", lambda *what: asked.append(what) or "s3://b/1 holds no Bento")
    settings = Settings(home=parts.settings.home, deploy_url="kserve://immr?storage=s3://b")
    parts = Parts.of(settings, registry=parts.registry, deployer=parts.deployer, index=parts.index)
    with pytest.raises(DeployError, match=r"s3://b/1 holds no Bento \(run `immr package --model immr-1`\)"):
        deploy(parts, version(1), "bento:1")
    assert asked == [("bento:1", "s3://b")]


def test_a_running_test_keeps_its_versions(parts: Parts) -> None:
    for number in (1, 2):
        deploy(parts, version(number), f"bento:{number}")
    begin_test(parts, 1, 2)
    with pytest.raises(
        ExperimentRunningError, match=r"comparing immr-1 with immr-2, and immr-3 would replace or join them"
    ):
        deploy(parts, version(3), "bento:3")
    assert parts.registry.roles()["challenger"] == version(2)
    assert parts.deployer.deployed == {"champion": "immr-1", "challenger": "immr-2"}  # type: ignore[attr-defined]


def test_all_versions_of_a_test_are_named_and_force_is_logged_only_for_a_deployment(
    parts: Parts, caplog: pytest.LogCaptureFixture
) -> None:
    """`--force` logged "is deployed" of a version that then went to the queue."""
    deploy(parts, version(1), "bento:1")
    sides = [(f"immr-{number}", "http://127.0.0.1:1") for number in (1, 2, 3, 4)]
    challengers = dict(zip(CHALLENGER_ROLES, sides[1:], strict=False))
    save(changes.begin(sides[0], challengers, 0.2, datetime.now(UTC)), parts.settings.experiment_file)
    with pytest.raises(
        ExperimentRunningError, match="is comparing immr-1 with immr-2, immr-3 and immr-4, and"
    ):
        deploy(parts, version(5), "bento:9", force=True)
    assert caplog.text == ""


def test_versions_of_the_running_test_can_be_deployed_again(parts: Parts) -> None:
    for number in (1, 2):
        deploy(parts, version(number), f"bento:{number}")
    begin_test(parts, 1, 2)
    assert deploy(parts, version(2), "bento:2").role == "challenger"
    assert deploy(parts, version(1), "bento:1").role == "champion"


def test_versions_of_an_ended_test_can_be_replaced(parts: Parts) -> None:
    for number in (1, 2):
        deploy(parts, version(number), f"bento:{number}")
    begin_test(parts, 1, 2)
    save(
        changes.stop(load(parts.settings.experiment_file), datetime.now(UTC)), parts.settings.experiment_file
    )
    assert deploy(parts, version(3), "bento:3").role == "challenger"


def test_a_version_that_the_gate_stopped_is_refused(parts: Parts, caplog: pytest.LogCaptureFixture) -> None:
    tags = {"gate": "recall@1 is 0.1 worse.", "gate.passed": "no"}
    parts.registry.tagged["immr-1"] = tags  # type: ignore[attr-defined]
    with pytest.raises(
        DeployError, match=r"immr-1 is not deployed: the gate stopped it \(recall@1 is 0.1 worse"
    ):
        deploy(parts, version(1), "bento:1")
    assert not parts.registry.roles()
    assert deploy(parts, version(1), "bento:1", force=True).role == "champion"
    assert "immr-1 is deployed with --force, although the gate stopped it" in caplog.text


def test_a_version_without_bento_or_collection_is_refused(parts: Parts) -> None:
    parts.index.missing.add("immr-1")  # type: ignore[attr-defined]
    with pytest.raises(
        DeployError,
        match=r"no Bento bento:9 .*immr package --model immr-1.*no finished collection .*immr index",
    ):
        deploy(parts, version(1), "bento:9")
    with pytest.raises(DeployError, match="immr-1 is not deployed: it has no finished collection"):
        deploy(parts, version(1), "bento:1")
    assert deploy(parts, version(1), "bento:9", force=True).version_id == "immr-1"


def test_several_challengers_have_places_and_the_oldest_gives_way(parts: Parts) -> None:
    several = Parts.of(
        parts.settings.model_copy(update={"challengers": 2}),
        registry=parts.registry,
        deployer=parts.deployer,
        index=parts.index,
    )
    found = [deploy(several, version(number), f"bento:{number}").role for number in (1, 2, 3, 4, 3)]
    assert found == ["champion", "challenger", "challenger-2", "challenger", "challenger-2"]
    assert deploy(parts, version(5), "bento:5").role == "challenger"  # one is configured here
