"""The real loop on a small rendered shop: real pipeline runs, real processes, real HTTP."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from demo.shoppers import ShopperPhoto, play
from immr.datasets.simulation import simulate
from immr.datasets.simulation_recipe import SimulationRecipe
from immr.datasets.synthetic import SyntheticRecipe
from immr.datasets.synthetic import load as load_synthetic
from immr.deploy.local import LocalDeployer
from immr.experiment.definition import Experiment, Variant
from immr.experiment.file import save
from immr.loop.experiment.decide import decide
from immr.machine import processes
from immr.settings import Settings
from immr.wiring import connect

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Shop:
    settings: Settings
    data: Path
    photos: list[ShopperPhoto]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    home = tmp_path_factory.mktemp("home")
    settings = Settings(home=home, model_name="tiny")
    labelled = load_synthetic(
        SyntheticRecipe(items=12, train_photos=12, val_photos=3, side_px=96), settings.cache_dir
    )
    simulate(labelled, home / "shop", SimulationRecipe(users=40, broken_rows=6))
    category_of = {item.item_id: item.category for item in labelled.items}
    photos = [ShopperPhoto(Path(p.image), p.item_id, category_of[p.item_id]) for p in labelled.split("val")]
    return Shop(settings, home / "shop", photos)


def refresh(shop: Shop, *options: str) -> str:
    """One pipeline run, each step in its own process, as on Kubeflow."""
    done = subprocess.run(
        [sys.executable, "-m", "pipelines", "run", str(shop.data), "--recipe", "smoke", *options],
        cwd=ROOT,
        env={**os.environ, **shop.settings.environment()},
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def two_versions(shop: Shop) -> Shop:
    """A champion, and a challenger that the gate first stopped and then passed."""
    registry = connect(shop.settings).registry

    passed = refresh(shop, "--processes", "2", "--gate-margin", "-1")
    assert "deploy done" in passed
    champion = registry.role("champion")
    assert champion is not None and champion.number == 1

    stopped = refresh(shop, "--processes", "1", "--gate-margin", "1")
    assert "deploy" not in stopped
    assert registry.role("challenger") is None

    refresh(shop, "--processes", "1", "--gate-margin", "-1")
    challenger = registry.role("challenger")
    assert challenger is not None and challenger.number == 2  # trained once, then found by its key
    return shop


@pytest.fixture(scope="module")
def gateway(two_versions: Shop) -> Iterator[str]:
    settings = two_versions.settings
    deployer = connect(settings).deployer
    assert isinstance(deployer, LocalDeployer)
    with ExitStack() as running:
        deployments = running.enter_context(deployer.running())
        variants = tuple(Variant(d.role, d.url, d.version_id, 0.5) for d in deployments)
        save(
            Experiment("e2e", salt="e2e", variants=variants, started=datetime.now(UTC), min_days=0),
            settings.experiment_file,
        )
        url = f"http://127.0.0.1:{free_port()}"
        running.enter_context(
            processes.serving(
                ["-m", "serving.gateway", "--port", url.rsplit(":", 1)[1]],
                settings.environment(),
                settings.home / "gateway.log",
                f"{url}/health/ready",
            )
        )
        yield url


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def search(url: str, photo: Path, user: str) -> dict[str, object]:
    answer = httpx.post(
        f"{url}/v1/search",
        files={"image": photo.read_bytes()},
        data={"k": "5", "user_id": user},
        timeout=30,
    )
    assert answer.status_code == 200, answer.text
    found: dict[str, object] = answer.json()
    return found


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_users_stick_to_one_variant_and_both_variants_serve(gateway: str, two_versions: Shop) -> None:
    photo = two_versions.photos[0].path
    variants = {}
    for user in (f"user-{number}" for number in range(20)):
        first, second = search(gateway, photo, user), search(gateway, photo, user)
        assert first["variant"] == second["variant"]
        assert len(first["hits"]) == 5  # type: ignore[arg-type]
        variants[first["variant"]] = first["model_version"]
    assert variants == {"champion": "tiny-1", "challenger": "tiny-2"}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_clicks_become_a_readout_and_a_decision(gateway: str, two_versions: Shop) -> None:
    report = play(gateway, two_versions.photos, shoppers=40, concurrency=2)
    assert report.errors == 0 and report.clicks > 0

    watched = decide(connect(two_versions.settings))
    users = {side.name: side.users for side in watched.readout.variants}
    assert set(users) == {"champion", "challenger"} and sum(users.values()) >= 40
    assert sum(side.clicks for side in watched.readout.variants) >= report.clicks
    assert watched.decision.action in {"promote", "keep", "wait", "roll back"}
    written = connect(two_versions.settings).registry.decisions()
    assert written[-1]["reason"] == watched.decision.reason


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("content", "status"), [(b"", 422), (b"<html>not a photo</html>", 422), (b"\xff\xd8\xff broken", 422)]
)
def test_bad_photos_get_an_error_and_do_no_harm(
    gateway: str, two_versions: Shop, content: bytes, status: int
) -> None:
    answer = httpx.post(f"{gateway}/v1/search", files={"image": content}, data={"user_id": "u"}, timeout=30)
    assert answer.status_code in (status, 415)
    assert answer.headers["content-type"] == "application/problem+json"
    assert search(gateway, two_versions.photos[0].path, "u")["hits"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_reports_are_published_for_the_page(two_versions: Shop) -> None:
    from immr.registry.reports import published

    kinds: Sequence[str] = [report["kind"] for report in published(two_versions.settings.home)]
    assert set(kinds) == {"governance", "evaluation"}
    for report in published(two_versions.settings.home):
        html = (two_versions.settings.home / "reports" / report["file"]).read_text()
        assert "data:image/" in html and report["sentence"]
