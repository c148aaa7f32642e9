"""A version with a ranker in an A/B test beside one without: start, searches, clicks, readout.

Bentos, gateway, indexes and event log are real. The registry, the deployer and the feature store are kept in memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from immr.deploy.deployer import Deployment
from immr.experiment.assignment import assign
from immr.loop.experiment.start import start
from immr.loop.watch import read_out
from immr.search.ranker import Ranker
from immr.search.ranking import RankingRecipe
from immr.search.signals import names
from immr.search.trees import Tree, Trees
from immr.settings import Settings
from immr.types import ItemFeatures, ModelVersion, Role
from immr.wiring import Parts
from serving.bento import answering
from tests.support import in_process, tiny_version
from tests.support.shopper import click, search, wait_until_recorded

ROLES: dict[Role, ModelVersion] = {
    "champion": tiny_version.version(1),
    "challenger": tiny_version.version(2),
}
USERS = [f"user-{number}" for number in range(24)]


class Registry:
    def roles(self) -> dict[Role, ModelVersion]:
        return ROLES


class Deployer:
    def __init__(self, urls: dict[Role, str]) -> None:
        self._urls = urls

    def current(self) -> Sequence[Deployment]:
        return [Deployment(role, ROLES[role].id, "bento", url) for role, url in self._urls.items()]


class Features:
    """Knows no item, so that hits are ranked by similarity, and by the ranker of a version that has one."""

    ready = True

    def warm(self) -> None:
        pass

    def freshness(self) -> datetime | None:
        return datetime.now(UTC)

    def read(self, item_ids: Sequence[str]) -> dict[str, ItemFeatures]:
        return {}


def last_first() -> Ranker:
    """A ranker that prefers what is least similar."""
    column = names({}).index("first_rank")
    steps = [Tree([column], [rank + 0.5], [True], [1], [0.0, 10.0]) for rank in range(1, 5)]
    return Ranker({}, RankingRecipe(), 1.0, Trees(steps))


def served(home: Path, number: int, running: ExitStack) -> str:
    """The address of a version; the second has a ranker."""
    settings = Settings(home=home)
    folder = tiny_version.write_packaged(home / f"immr-{number}", number)
    tiny_version.build_index(settings, folder, tiny_version.items(home / "pictures"), number)
    if number == 2:
        last_first().write(folder)
    parts = Parts.of(settings, features=Features())
    app_service = answering.VersionService(folder, parts)
    url = running.enter_context(in_process.served_service(app_service))
    in_process.wait_ready(url)
    return url


def test_each_user_gets_their_versions_order_and_the_readout_counts_it(tmp_path: Path) -> None:
    with ExitStack() as running:
        urls: dict[Role, str] = {
            role: served(tmp_path, number, running) for number, role in enumerate(ROLES, start=1)
        }
        settings = Settings(home=tmp_path)
        parts = Parts.of(settings, registry=Registry(), deployer=Deployer(urls), features=Features())
        running.callback(parts.close)
        experiment = start(parts, share=0.5)
        client = running.enter_context(in_process.served_gateway(settings))
        orders: dict[str, set[tuple[str, ...]]] = {}
        for user in USERS:
            body = search(client, user_id=user, k="5").json()
            assert body["degraded"] == [] and body["variant"] == assign(experiment, user).name
            learned = ["learned" in hit["score_parts"] for hit in body["hits"]]
            assert learned == [body["variant"] == "challenger"] * 5
            orders.setdefault(body["variant"], set()).add(tuple(hit["item_id"] for hit in body["hits"]))
            if body["variant"] == "challenger":
                event = click(body["hits"][0]["click_token"])
                assert client.post("/v1/events", json={"events": [event]}).json()["accepted"] == 1
        wait_until_recorded(settings, len(USERS))
        [by_hand], [by_ranker] = orders["champion"], orders["challenger"]
        assert by_ranker == by_hand[::-1] and by_hand[0] == "red"
        result = read_out(parts).readout
    assigned = Counter(assign(experiment, user).name for user in USERS)
    counts = {side.name: (side.model_version, side.users, side.clicks) for side in result.variants}
    assert counts == {
        "champion": ("immr-1", assigned["champion"], 0),
        "challenger": ("immr-2", assigned["challenger"], assigned["challenger"]),
    }
    assert result.fallback_queries == result.foreign_queries == result.users_in_both == 0
