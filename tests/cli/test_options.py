"""How commands print an experiment, and words that they refuse."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from immr.cli import app
from immr.cli.options import describe, print_json
from immr.experiment import changes

SIDES = ("immr-1", "http://a:1"), {"challenger": ("immr-2", "http://b:1")}


def test_a_ramp_is_shown_with_its_next_shares() -> None:
    begun = changes.begin(*SIDES, 0.01, datetime.now(UTC), ramp=(0.05, 0.25), ramp_every_s=6 * 3600)
    shown = "immr-1 99% at http://a:1, challenger immr-2 1% at http://b:1; next shares 5%, 25%, each after 6h"
    assert describe(begun).endswith(f"{shown}; it promotes or keeps after 7 days at the earliest")
    assert describe(replace(begun, min_days=0)).endswith(shown)
    mixed = changes.begin(*SIDES, 0.2, datetime.now(UTC), kind="interleave")
    assert describe(mixed).endswith("; it keeps the champion after 7 days at the earliest")


def test_a_stopped_test_shows_no_shares() -> None:
    stopped = replace(changes.begin(*SIDES, 0.5, datetime.now(UTC)), state="stopped")
    assert describe(stopped).endswith(
        "(stopped, all users get immr-1): champion immr-1 at http://a:1, challenger immr-2"
    )


def test_times_in_json_are_iso_8601(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"started": datetime(2026, 5, 1, 12, tzinfo=UTC), "folder": Path("out")})
    assert capsys.readouterr().out == '{"started": "2026-05-01T12:00:00+00:00", "folder": "out"}\n'


@pytest.mark.parametrize("empty", ["", " "])
def test_an_empty_user_id_is_not_reported_as_forgotten(tmp_path: Path, empty: str) -> None:
    done = CliRunner(env={"IMMR_HOME": str(tmp_path), "COLUMNS": "200"}).invoke(
        app, ["features", "delete", empty]
    )
    assert done.exit_code == 2 and "is empty" in done.output
    assert list(tmp_path.rglob("forgotten.json")) == []


@pytest.mark.parametrize("option", ["--port", "--page-port"])
@pytest.mark.parametrize("port", ["0", "-1", "65536"])
def test_a_port_that_there_is_not_is_refused(tmp_path: Path, option: str, port: str) -> None:
    done = CliRunner(env={"IMMR_HOME": str(tmp_path), "COLUMNS": "200"}).invoke(app, ["serve", option, port])
    assert done.exit_code == 2 and f"Invalid value for '{option}'" in done.output
