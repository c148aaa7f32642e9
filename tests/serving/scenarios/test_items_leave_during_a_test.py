"""Items that leave the catalogue during an A/B test: no variant shows them any more, and what they earned counts."""

from __future__ import annotations

from pathlib import Path

import httpx

from immr.experiment.file import save
from immr.loop import catalogue
from immr.loop.watch import read_out
from immr.settings import Settings
from immr.types import Role
from immr.wiring import connect
from tests.serving.conftest import build_home
from tests.support import tiny_version
from tests.support.in_process import ready_version, served_gateway
from tests.support.patience import until
from tests.support.shopper import assert_problem, click, experiment, rows, search, user_of

VARIANTS: tuple[Role, ...] = ("champion", "challenger")


def register(settings: Settings) -> None:
    """immr-1 as champion and immr-2 as challenger, as their collections were built for."""
    registry, made = connect(settings).registry, tiny_version.version()
    for role in VARIANTS:
        run_id = registry.runs.start(role, {}, key=role)
        folder = settings.home / f"trained-{role}"
        folder.mkdir()
        (folder / "card.json").write_text("{}")
        version = registry.register(
            folder,
            role,
            run_id,
            dim=made.dim,
            preprocessing_hash=made.preprocessing_hash,
            manifest_hash=made.manifest_hash,
            recipe=made.recipe,
        )
        registry.runs.finish(run_id)
        registry.set_role(role, version)


def shown(body: dict[str, object]) -> list[str]:
    hits = body["hits"]
    assert isinstance(hits, list)
    return [hit["item_id"] for hit in hits]


def clicked_on(client: httpx.Client, body: dict[str, object], item_id: str) -> None:
    hits = body["hits"]
    assert isinstance(hits, list)
    [token] = [hit["click_token"] for hit in hits if hit["item_id"] == item_id]
    answer = client.post("/v1/events", json={"events": [click(token)]})
    assert answer.status_code == 200, answer.text
    assert answer.json()["accepted"] == 1


def test_both_variants_stop_showing_an_item_and_its_clicks_count(tmp_path: Path) -> None:
    settings = Settings(home=build_home(tmp_path))
    register(settings)
    with (
        ready_version(settings, tmp_path / "immr-1") as champion,
        ready_version(settings, tmp_path / "immr-2") as challenger,
    ):
        running = experiment(champion, challenger)
        save(running, settings.experiment_file)
        users = {name: user_of(name, running) for name in VARIANTS}
        with served_gateway(settings) as client:
            before = {name: search(client, user_id=user).json() for name, user in users.items()}
            assert all(shown(body)[0] == "red" and body["variant"] == name for name, body in before.items())

            progress = catalogue.change(connect(settings), [], ["red"])
            assert [(each.version_id, each.waiting) for each in progress] == [("immr-1", 0), ("immr-2", 0)]
            after: dict[str, dict[str, object]] = {}
            for name, user in users.items():

                def is_gone(name: str = name, user: str = user) -> bool:
                    after[name] = search(client, user_id=user).json()
                    return "red" not in shown(after[name])

                until(is_gone)
                assert after[name]["variant"] == name and len(shown(after[name])) == 4
                gone = client.post("/v1/search", json={"item_id": "red", "user_id": user})
                assert_problem(gone, 404, "There is no item 'red'")

            # of a page that was opened before the item left
            for body in before.values():
                clicked_on(client, body, "red")
            for body in after.values():
                rows(settings, str(body["query_id"]))
            until(lambda: sum(side.clicks for side in read_out(connect(settings)).readout.variants) == 2)
    found = read_out(connect(settings)).readout
    assert found.fallback_queries == 0
    for side in found.variants:
        assert side.clicks == 1 and side.users == 1
        assert side.impressions >= 5 + 4
