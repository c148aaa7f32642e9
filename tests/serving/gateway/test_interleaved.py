"""An interleaved experiment through the real gateway, with two real versions that rank differently."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from immr.experiment.assignment import assign
from immr.experiment.changes import begin
from immr.experiment.definition import Experiment
from immr.experiment.file import save
from immr.loop import watch as watching
from immr.settings import Settings
from immr.wiring import connect
from tests.support import http_client, tiny_version
from tests.support.in_process import served_gateway, served_version, wait_ready
from tests.support.shopper import click, wait_until_recorded

COLOURS = ("red", "green", "blue", "yellow")


@pytest.fixture
def interleaving(tmp_path: Path) -> Iterator[tuple[httpx.Client, Settings, Experiment]]:
    """The champion's documents are shuffled, so it mistakes each colour for another."""
    settings = Settings(home=tmp_path)
    catalogue = tiny_version.items(tmp_path / "pictures")
    folders = [tiny_version.write_packaged(tmp_path / f"immr-{number}", number) for number in (1, 2)]
    mixed_up = np.roll(tiny_version.embed(folders[0], catalogue), 1, axis=0)
    connect(settings).index.build(tiny_version.version(1), catalogue, mixed_up)
    tiny_version.build_index(settings, folders[1], catalogue, 2)
    with served_version(settings, folders[0]) as champion, served_version(settings, folders[1]) as challenger:
        wait_ready(champion)
        wait_ready(challenger)
        begun = begin(
            ("immr-1", champion), {"challenger": ("immr-2", challenger)}, 0.8, datetime.now(UTC), "interleave"
        )
        save(begun, settings.experiment_file)
        with served_gateway(settings) as client:
            yield client, settings, begun


def search(client: httpx.Client, user: str, colour: str, k: int = 5) -> dict[str, Any]:
    sent = client.post(
        "/v1/search", files={"image": tiny_version.photo(colour)}, data={"user_id": user, "k": str(k)}
    )
    assert sent.status_code == 200, sent.text
    body: dict[str, Any] = sent.json()
    return body


def test_shoppers_who_see_both_versions_prefer_the_better_one(
    interleaving: tuple[httpx.Client, Settings, Experiment],
) -> None:
    client, settings, begun = interleaving
    users = [f"user-{number}" for number in range(100)]
    mixed = [user for user in users if assign(begun, user).name == "challenger"]
    for number, user in enumerate(users):
        colour = COLOURS[number % len(COLOURS)]
        body = search(client, user, colour)
        positions = [hit["position"] for hit in body["hits"]]
        assert positions == list(range(1, 6))
        assert len({hit["item_id"] for hit in body["hits"]}) == 5
        # every sixth shopper clicks the first hit
        wanted = body["hits"][0]["item_id"] if number % 6 == 0 else colour
        chosen = next(hit for hit in body["hits"] if hit["item_id"] == wanted)
        sent = client.post("/v1/events", json={"events": [click(chosen["click_token"])]})
        assert sent.json()["accepted"] == 1
    wait_until_recorded(settings, len(users))

    log = connect(settings).events
    shown = log.joined().to_pylist()
    log.close()
    versions = Counter((row["variant"], row["model_version"]) for row in shown)
    assert versions["champion", "immr-1"] == 5 * (len(users) - len(mixed))
    teams = [versions["challenger", "immr-1"], versions["challenger", "immr-2"]]
    assert min(teams) >= 2 * len(mixed)
    assert sum(teams) == 5 * len(mixed)

    watched = watching.read_out(connect(settings))
    found = watched.readout.preference
    assert found is not None
    assert (found.queries, found.won + found.lost, found.users) == (len(mixed), len(mixed), len(mixed))
    assert found.interval.low > 0.5
    assert watched.readout.ctr is None
    by_name = {side.name: side for side in watched.readout.variants}
    assert by_name["challenger"].queries == len(mixed)
    assert by_name["challenger"].impressions == 5 * len(mixed)
    assert (watched.readout.foreign_queries, watched.readout.fallback_queries) == (0, 0)
    assert watched.decision.action == "wait"


def test_if_one_version_is_down_the_other_answers_and_nothing_is_compared(
    interleaving: tuple[httpx.Client, Settings, Experiment],
) -> None:
    client, settings, begun = interleaving
    [champion, challenger] = begun.variants
    save(
        replace(begun, variants=(champion, replace(challenger, url="http://127.0.0.1:9"))),
        settings.experiment_file,
    )
    users = [f"user-{number}" for number in range(30)]
    assert {search(client, user, "red")["model_version"] for user in users} == {"immr-1"}
    wait_until_recorded(settings, len(users))
    watched = watching.read_out(connect(settings))
    assert watched.readout.preference is None
    assert watched.readout.fallback_queries == sum(assign(begun, user).name == "challenger" for user in users)
    assert watched.decision.action == "roll back"  # the guardrail counts its failures


def test_a_page_continues_with_the_version_that_began_it(
    interleaving: tuple[httpx.Client, Settings, Experiment],
) -> None:
    client, _, begun = interleaving
    mixed = next(
        f"user-{number}" for number in range(50) if assign(begun, f"user-{number}").name == "challenger"
    )
    first = http_client.post(
        f"{begun.variants[1].url}/v1/search", files={"image": tiny_version.photo("red")}, data={"k": "2"}
    ).json()
    assert first["next_page"]
    assert search(client, mixed, "red", k=2)["next_page"] is None
    following = client.post("/v1/search", json={"page": first["next_page"], "user_id": mixed})
    assert following.json()["model_version"] == "immr-2"
    assert [hit["position"] for hit in following.json()["hits"]] == [3, 4]
