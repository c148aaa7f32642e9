"""A personal ranker in a Bento behind the gateway: click, push, search, forget.

Bento, gateway, index, event log and feature store (Feast on SQLite) are real; the trees are written by hand.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from immr.data.contract import IMPRESSIONS
from immr.data.training_set import TrainingSet
from immr.experiment.file import save
from immr.loop.materialize import forget, materialize, push
from immr.search.personal_signals import Personal, personal_names
from immr.search.ranker import Ranker
from immr.search.ranking import RankingRecipe
from immr.search.trees import Tree, Trees
from immr.settings import Settings
from immr.wiring import Parts, connect
from serving.bento.answering import VersionService
from tests.support import in_process, tiny_version
from tests.support.shopper import alone, click, search, wait_until_recorded

ANN = "shopper-zyx"
COLD = ("green", "blue")  # of the shade that Ann clicks
KINDS = {"shade": "keyword", "size": "number"}


def ranker(personal: bool) -> Ranker:
    """Adds nothing for everybody; for users, prefers the shade of most of their clicks."""
    likes_shade = Tree([personal_names(KINDS).index("shade_affinity")], [0.5], [True], [1], [0.0, 10.0])
    base = Ranker(KINDS, RankingRecipe(), 1.0, Trees([]))
    return replace(base, personal=Personal(1.0, Trees([likes_shade]))) if personal else base


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(home=tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def training_set(tmp_path_factory: pytest.TempPathFactory) -> TrainingSet:
    folder = tmp_path_factory.mktemp("set")
    rows = [
        {**asdict(item), "attributes": json.dumps(item.attributes), "class_id": number}
        for number, item in enumerate(tiny_version.items(folder / "pictures"))
    ]
    pq.write_table(pa.Table.from_pylist(rows).drop_columns(["stock", "images"]), folder / "items.parquet")
    (folder / "manifest.json").write_text(json.dumps({"hash": "a" * 64}))
    return TrainingSet(folder)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A click log with one impression."""
    folder = tmp_path_factory.mktemp("shop")
    row = {"query_id": "old", "item_id": "red", "position": 1, "clicked": False, "ordered": False}
    row |= {"variant": "control", "model_version": "former", "ts": datetime.now(UTC)}
    pq.write_table(pa.Table.from_pylist([row], IMPRESSIONS.columns), folder / "impressions.parquet")
    return folder


@pytest.fixture(scope="module")
def parts(settings: Settings, training_set: TrainingSet, data: Path) -> Iterator[Parts]:
    with connect(settings) as opened:
        materialize(opened, training_set, data)
        yield opened


def served(settings: Settings, personal: bool, running: ExitStack) -> tuple[httpx.Client, str]:
    """A gateway in front of one version, and the version's own address."""
    number = 1 + personal
    folder = settings.home / f"immr-{number}"
    if not folder.exists():
        tiny_version.write_packaged(folder, number)
        tiny_version.build_index(settings, folder, tiny_version.items(settings.home / "pictures"), number)
        ranker(personal).write(folder)
    service = VersionService(folder, connect(settings))
    url = running.enter_context(in_process.served_service(service))
    in_process.wait_ready(url)
    save(alone(url, f"immr-{number}"), settings.experiment_file)
    return running.enter_context(in_process.served_gateway(settings)), url


def comparable(answer: httpx.Response) -> bytes:
    """The answer's bytes without what differs between any two answers or versions."""
    body: dict[str, Any] = answer.json()
    for name in ("query_id", "took_ms", "model_version", "next_page"):
        del body[name]
    for hit in body["hits"]:
        del hit["click_token"]
    return json.dumps(body).encode()


def order(client: httpx.Client, **fields: str) -> list[str]:
    return [hit["item_id"] for hit in search(client, k="5", **fields).json()["hits"]]


def test_clicks_change_the_order_of_their_user_until_the_user_is_forgotten(
    settings: Settings, training_set: TrainingSet, data: Path, parts: Parts, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with ExitStack() as running:
        client, bento = served(settings, True, running)
        former = order(client, user_id=ANN)
        assert former[0] == "red"
        for _ in range(2):
            for hit in search(client, k="5", user_id=ANN).json()["hits"]:
                if hit["item_id"] in COLD:
                    client.post("/v1/events", json={"events": [click(hit["click_token"])]})
        visitor = search(client, k="5").json()  # the client keeps the cookie
        token = next(hit["click_token"] for hit in visitor["hits"] if hit["item_id"] == "blue")
        client.post("/v1/events", json={"events": [click(token)]})
        wait_until_recorded(settings, 4)
        assert order(client, user_id=ANN) == former  # nothing was pushed
        assert push(parts, training_set, data, personal=True).users == 2

        personal = order(client, user_id=ANN)
        assert set(personal[:2]) == set(COLD)
        assert [item for item in personal if item not in COLD] == [
            item for item in former if item not in COLD
        ]
        assert order(client) == personal  # the visitor, by the cookie
        client.cookies.clear()
        assert order(client, user_id="ben") == order(client) == former
        direct = httpx.Client(base_url=bento, trust_env=False)
        assert order(direct, user_id=ANN) == personal
        first = search(client, k="2", user_id=ANN).json()
        second = client.post("/v1/search", json={"page": first["next_page"], "user_id": ANN}).json()
        assert [hit["item_id"] for page in (first, second) for hit in page["hits"]] == personal[:4]

        answer = search(client, k="1", user_id=ANN).text
        for text in (answer, caplog.text, client.get("/metrics").text, direct.get("/metrics").text):
            assert ANN not in text and "affinity" not in text
        forget(parts, ANN)
        assert parts.features.read_user(ANN) is None
        assert order(client, user_id=ANN) == former
        push(parts, training_set, data, personal=True)
        assert order(client, user_id=ANN) == former
        direct.close()


def test_a_stranger_and_a_version_without_it_get_the_same_bytes(
    settings: Settings, training_set: TrainingSet, data: Path, parts: Parts
) -> None:
    """Runs after the test above: Ann is forgotten, and a visitor has features."""
    answers: dict[bool, list[bytes]] = {}
    for personal in (True, False):
        with ExitStack() as running:
            client, _ = served(settings, personal, running)
            asked = [{"user_id": "ben"}, {}, {"user_id": "ben", "group_by": "shade"}, {"user_id": ANN}]
            answers[personal] = [comparable(search(client, k="5", **fields)) for fields in asked]
    assert answers[True] == answers[False]
