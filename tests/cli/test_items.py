"""What `immr items` prints."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from immr.cli import app, items
from immr.loop.items.request import ItemsProgress, ItemsResult


def test_ids_and_errors_are_printed_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rich would take text in brackets for a style, and break lines after 80 characters."""
    item_id, error = f"shoe[red]{'-long' * 20}", "cannot open [bold]"
    progress = ItemsProgress("immr-1", False, 0, 1, None, error)
    monkeypatch.setattr(items, "ask", lambda *_: ItemsResult((progress,), unknown=(item_id,)))
    done = CliRunner().invoke(app, ["items", "delete", item_id], env={"IMMR_HOME": str(tmp_path)})
    assert done.exit_code == 0
    assert f"{item_id} is not in the catalogue: nothing was deleted\n" in done.stderr
    assert error in done.stdout


def test_an_empty_home_is_a_sentence_not_an_empty_table(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["items", "status"], env={"IMMR_HOME": str(tmp_path)})
    assert (done.exit_code, done.stdout) == (0, "")
    assert "no version has a collection yet" in done.stderr
