"""A home where immr-1 and immr-2 are registered and deployed, and stand-ins that answer for them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from immr.experiment.assignment import assign, group
from immr.experiment.definition import Experiment
from immr.index.vector_index import Content
from immr.packaging.bento import tag_of
from immr.registry.registry import Registry
from immr.settings import Settings
from immr.types import Click, Impression, ModelVersion, Role, SearchRecord
from immr.wiring import Parts, connect
from tests.support.stand_in_server import JsonHandler, served


def version_of(
    registry: Registry, folder: Path, key: str, recipe: str = "concept", manifest_hash: str = "m"
) -> ModelVersion:
    folder.mkdir(exist_ok=True)
    (folder / "card.json").write_text("{}")
    run_id = registry.runs.start(key, {}, key=key)
    version = registry.register(
        folder, key, run_id, dim=8, preprocessing_hash="p", manifest_hash=manifest_hash, recipe=recipe
    )
    registry.runs.finish(run_id)
    return version


@contextmanager
def ready(version: str, home: str = "") -> Iterator[str]:
    """An address at which this version reports that it is ready, and if given, for which home."""
    answer = {"ready": True, "model_version": version} | ({"home": home} if home else {})

    class Fine(JsonHandler):
        def do_GET(self) -> None:
            self.answer(answer)

    with served(Fine) as url:
        yield url


def move(settings: Settings, urls: Mapping[str, str]) -> None:
    """Deployed versions, by id, serve at these addresses."""
    state = settings.home / "deployments" / "deployments.json"
    rows = json.loads(state.read_text())
    state.write_text(json.dumps([row | {"url": urls.get(row["version_id"], row["url"])} for row in rows]))


class EveryCollection:
    """An index in which every version has a finished collection."""

    def content(self, version_id: str) -> Content | None:
        return Content(version_id, 0)


def packaged_parts(settings: Settings, *version_ids: str) -> Parts:
    """Parts in which these versions have a Bento, and every version a collection."""
    for version_id in version_ids:
        folder = settings.bento_home / "bentos" / tag_of(version_id).replace(":", "/")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "bento.yaml").write_text("name: immr-search\n")
    return Parts.of(settings, index=EveryCollection())


def give_roles(settings: Settings, roles: Mapping[Role, str]) -> None:
    """Deploy versions as they are, without a gate, a Bento or a collection."""
    parts = connect(settings)
    for role, version_id in roles.items():
        version = parts.registry.get(version_id)
        parts.deployer.apply(version, tag_of(version_id), role)
        parts.registry.set_role(role, version)


def champion_and_challenger(folder: Path) -> Settings:
    """A home below the folder with immr-1 as champion and immr-2 as challenger, both deployed."""
    settings = Settings(home=folder / "home")
    for key in ("key-1", "key-2"):
        version_of(connect(settings).registry, folder / "trained", key)
    give_roles(settings, {"champion": "immr-1", "challenger": "immr-2"})
    return settings


def shop(
    settings: Settings,
    running: Experiment,
    rates: Mapping[str, int],
    users: int = 1500,
    fails: bool = False,
    visit: int = 0,
    every_s: float = 1.0,
) -> None:
    """One search of ten items per user; `rates` of 20 users click twice; with `fails` the challenger is down.

    With a small `every_s` all of them are over when a test is stopped by hand.
    """
    log = connect(settings).events
    assert running.started is not None
    with log.batch():  # one commit
        for number in range(users):
            variant, name = assign(running, f"user-{number}"), group(running, f"user-{number}")
            down = fails and name == "challenger"
            version = running.champion.model_version if down else variant.model_version
            ts = running.started + timedelta(seconds=every_s * number, hours=visit)
            query = f"{running.salt}-{visit}-{number}"
            search = SearchRecord(query, f"user-{number}", ts, name, version, 20, 10, False, down)
            shown = [
                Impression(query, f"i{place}", place, f"user-{number}", name, version, ts)
                for place in range(1, 11)
            ]
            log.record_search(search, shown)
            if number * 7 % 20 < rates.get(name, 5):
                log.record_clicks(
                    [Click(f"{query}-{item}", "click", query, item, ts) for item in ("i1", "i3")]
                )
    log.close()


def roles(settings: Settings) -> tuple[str | None, str | None]:
    registry = connect(settings).registry
    champion, challenger = registry.role("champion"), registry.role("challenger")
    return (champion.id if champion else None, challenger.id if challenger else None)


def deployments(settings: Settings) -> dict[str, str]:
    return {each.role: each.version_id for each in connect(settings).deployer.current()}
