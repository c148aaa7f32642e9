"""`immr drift` on a real registry, event log, photo store, query encoder and document towers."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from immr.cli import app
from immr.data.training_set import TrainingSet
from immr.drift.findings import DriftPolicy, DriftReport
from immr.events.query_photos import PhotoStore
from immr.loop import drift as drifting
from immr.model.model_card import TOWERS, Card
from immr.model.towers import Towers
from immr.settings import Settings
from immr.types import Click, Impression, SearchRecord
from immr.wiring import Parts, connect
from tests.support import tiny_training_set, tiny_version
from tests.support.sent_alerts import SentAlerts

RECIPE = dataclasses.replace(tiny_training_set.MODEL, fusion="image", dim=tiny_version.DIM, plain_share=0)
POLICY = DriftPolicy(least_rows=30, alpha=0.01)
HELD_OUT = {"red": 40, "green": 40}


def photograph(colour: str, rng: np.random.Generator) -> bytes:
    pixels = (
        np.array(tiny_training_set.COLOURS[colour]) + rng.normal(0, 12, (40, 40, 3)) + rng.normal(0, 12, 3)
    )
    content = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(content, "JPEG")
    return content.getvalue()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, TrainingSet]:
    """A champion, and a training set whose held-out photos are red and green."""
    home = tmp_path_factory.mktemp("home")
    settings, rng = Settings(home=home), np.random.default_rng(0)
    (home / "set").mkdir()
    training_set = tiny_training_set.write(home / "set")
    rows = []
    for colour, count in HELD_OUT.items():
        number = list(tiny_training_set.COLOURS).index(colour)
        for photo in range(count):
            path = home / "set" / f"held-out-{colour}-{photo}.jpg"
            path.write_bytes(photograph(colour, rng))
            item = f"item-{number}-{colour}"
            rows.append(
                {"query_id": f"h{number}-{photo}", "image": str(path), "item_id": item, "class_id": number}
            )
    pq.write_table(pa.Table.from_pylist(rows), home / "set" / "judgements.parquet")
    folder = tiny_version.write_files(home / "trained")
    torch.manual_seed(0)
    torch.save(Towers(RECIPE).eval().state_dict(), folder / TOWERS)
    Card("tiny", RECIPE, tiny_version.PREPROCESSING, manifest_hash="tiny", key="k").write(folder)
    registry = connect(settings).registry
    run_id = registry.runs.start("run", {}, key="k")
    version = registry.register(
        folder,
        "k",
        run_id,
        dim=RECIPE.embedding_dim,
        preprocessing_hash="p",
        manifest_hash="tiny",
        recipe="tiny",
    )
    registry.set_role("champion", version)
    return settings, training_set


def photographed(settings: Settings, home: Path, shares: Mapping[str, int]) -> Settings:
    """Users of each colour, who each search once and click the item of their colour."""
    own = Settings(home=home, tracking_url=settings.tracking_url)
    log, store, rng = connect(own).events, PhotoStore(own.photos_dir), np.random.default_rng(1)
    now = datetime.now(UTC)
    with log.batch():  # one commit
        for colour, users in shares.items():
            item = f"item-{list(tiny_training_set.COLOURS).index(colour)}-{colour}"
            for user in range(users):
                user_id = f"{colour}-{user}"
                query_id = f"{user_id}-q"
                search = SearchRecord(query_id, user_id, now, "champion", "immr-1", 10.0, 1)
                log.record_search(search, [Impression(query_id, item, 1, user_id, "champion", "immr-1", now)])
                log.record_clicks([Click(f"{query_id}-c", "click", query_id, item, now)])
                store.keep(query_id, photograph(colour, rng))
    log.close()
    return own


def found(settings: Settings, training_set: TrainingSet) -> dict[str, bool | None]:
    version = connect(settings).registry.get("champion")
    sent = SentAlerts()
    report = drifting.drift(Parts.of(settings, alerts=sent), version, training_set, policy=POLICY)
    assert DriftReport.read(settings.drift_file) == report
    assert [finding.what for finding in report.findings if finding.found] == [
        line.split(":")[0] for alert in sent.alerts for line in alert.text.splitlines()
    ]
    return {finding.what: finding.found for finding in report.findings}


def test_the_same_kind_of_photos_shows_no_drift(
    prepared: tuple[Settings, TrainingSet], tmp_path: Path
) -> None:
    settings = photographed(prepared[0], tmp_path, {"red": 30, "green": 30})
    assert found(settings, prepared[1]) == {
        "query photos": False,
        "scores": False,
        "categories": False,
        "features": None,
    }


def test_other_photos_show_drift(prepared: tuple[Settings, TrainingSet], tmp_path: Path) -> None:
    settings = photographed(prepared[0], tmp_path, {"red": 30, "blue": 30})
    output = found(settings, prepared[1])
    assert output["query photos"]
    assert output["categories"]


def test_a_process_that_ends_before_its_report_is_written_has_sent_its_alert(
    prepared: tuple[Settings, TrainingSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next run would have been the first to send it, perhaps a day later."""
    settings = photographed(prepared[0], tmp_path, {"red": 30, "blue": 30})
    sent = SentAlerts()
    monkeypatch.setattr(DriftReport, "write", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        drifting.drift(
            Parts.of(settings, alerts=sent),
            connect(settings).registry.get("champion"),
            prepared[1],
            policy=POLICY,
        )
    assert sent.titles == ["immr-1: recent searches differ from its training data"]


def test_the_command_reports_drift_by_its_exit_code(
    prepared: tuple[Settings, TrainingSet], tmp_path: Path
) -> None:
    settings = photographed(prepared[0], tmp_path, {})
    arguments = ["drift", str(prepared[1].folder)]
    table = CliRunner().invoke(app, arguments, env={**settings.environment(), "COLUMNS": "200"})
    assert table.exit_code == 0, table.output
    assert "Too few data: 80 held-out and 0" in table.output
    output = json.loads(CliRunner().invoke(app, [*arguments, "--json"], env=settings.environment()).stdout)
    assert [finding["found"] for finding in output["findings"]] == [None] * 4


def test_the_best_cosine_is_that_of_all_blocks_of_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drifting, "_CELLS_AT_ONCE", 20)  # five photos and four documents
    rng = np.random.default_rng(0)
    photos_ND, documents_KD = (rng.normal(size=(rows, 3)).astype(np.float32) for rows in (5, 11))
    best_N = drifting._best(photos_ND, documents_KD)
    np.testing.assert_allclose(best_N, (photos_ND @ documents_KD.T).max(axis=1), rtol=1e-6)
    assert drifting._best(photos_ND[:0], documents_KD).shape == (0,)
