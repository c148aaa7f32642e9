"""Catalogue changes that `immr serve` performs for other processes."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from immr.errors import ContractError
from immr.loop.items import delivery
from immr.loop.items.request import ItemsRequest
from immr.loop.items.service import LARGEST_FILE_BYTES, ask, perform, serving
from immr.model.encoders import loading
from immr.settings import Settings
from immr.wiring import connect
from tests.support.catalogue_home import blue, prepared, settings, titles, write

__all__ = ["prepared", "settings"]


def test_a_change_through_the_service_equals_one_by_the_command(settings: Settings, tmp_path: Path) -> None:
    new = write(tmp_path / "new.parquet", [blue(settings)])
    with serving(connect(settings)):
        added = ask(settings, ItemsRequest("upsert", source=str(new)))
        removed = ask(settings, ItemsRequest("delete", item_ids=("red",)))
        found = ask(settings, ItemsRequest("status"))
    assert added and (added.rows_in, added.rejected) == (1, {})
    assert found and [(each.version_id, each.live, each.waiting) for each in found.progress] == [
        ("immr-1", True, 0),
        ("immr-2", False, 0),
    ]
    assert removed and removed.progress == found.progress
    assert perform(connect(settings), ItemsRequest("status")) == found
    assert [set(titles(settings, number)) for number in (1, 2)] == [{"green", "blue"}] * 2


def test_a_file_with_rejected_items_is_answered_too(settings: Settings, tmp_path: Path) -> None:
    lost = dataclasses.replace(blue(settings), item_id="lost", image=str(tmp_path / "lost.png"))
    new = write(tmp_path / "new.parquet", [blue(settings), lost])
    with serving(connect(settings)):
        added = ask(settings, ItemsRequest("upsert", source=str(new)))
    assert added and added.rows_in == 2 and sum(added.rejected.values()) == 1
    assert [*added.rejected] == [*added.examples]
    assert delivery.outbox(connect(settings)).latest() == 1  # the command did not do it again


def test_an_error_there_is_raised_here(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("item_id,titel\n1,Tea\n")
    with serving(connect(settings)), pytest.raises(ContractError, match=r"items .*bad\.csv|bad\.csv"):
        ask(settings, ItemsRequest("upsert", source=str(tmp_path / "bad.csv")))


def test_the_command_does_what_the_service_should_not(settings: Settings, tmp_path: Path) -> None:
    """Without a service, with other settings, and for large files, folders and URLs."""
    assert ask(settings, ItemsRequest("status")) is None
    large = tmp_path / "large.csv"
    large.write_bytes(b" " * (LARGEST_FILE_BYTES + 1))
    with serving(connect(settings)):
        elsewhere = settings.model_copy(update={"tracking_url": "http://127.0.0.1:9"})
        assert ask(elsewhere, ItemsRequest("status")) is None
        for source in (str(large), str(tmp_path), "s3://bucket/items.parquet"):
            assert ask(settings, ItemsRequest("upsert", source=source)) is None
    assert delivery.outbox(connect(settings)).latest() == 0


def test_a_service_has_loaded_the_encoder_before_the_first_change(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads, load = [], loading.frozen_encoder
    monkeypatch.setattr(loading, "frozen_encoder", lambda *given: loads.append(given) or load(*given))
    kept = loading.Loading.kept()
    monkeypatch.setattr(delivery, "_loading", lambda: kept)
    with serving(connect(settings)):
        assert ask(settings, ItemsRequest("status"))  # answered after everything is loaded
        assert len(loads) == 1  # both versions have the same encoder
        assert ask(
            settings, ItemsRequest("upsert", source=str(write(tmp_path / "new.parquet", [blue(settings)])))
        )
    assert len(loads) == 1


def test_a_service_starts_although_the_index_does_not_answer(settings: Settings) -> None:
    away = settings.model_copy(update={"index_url": "http://127.0.0.1:9"})
    with serving(connect(away)):
        answer = ask(away, ItemsRequest("status"))
    assert answer and "is not available" in answer.progress[0].error


@pytest.mark.parametrize("verb", ["deliver", "status"])
def test_a_command_beside_a_service_loads_no_heavy_library(settings: Settings, verb: str) -> None:
    program = (
        "import sys; from immr.cli import app; "
        f"app(['items', '{verb}', '--json'], standalone_mode=False); "
        "print(sorted({'mlflow', 'numpy', 'pandas', 'pyarrow', 'qdrant_client', 'torch'} & set(sys.modules)))"
    )
    with serving(connect(settings)):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=settings.environment(),
            capture_output=True,
            text=True,
            timeout=300,
        )
    progress, _, loaded = done.stdout.strip().partition("\n")
    assert [each["version_id"] for each in json.loads(progress)] == ["immr-1", "immr-2"], done.stderr
    assert loaded == "[]"
