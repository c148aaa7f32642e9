"""No other pod can read a step's own disk, so training must read from IMMR_HOME."""

from __future__ import annotations

import json
from pathlib import Path

from immr.data.training_set import TrainingSet
from immr.loop import training_sets
from immr.settings import Settings


def training_set(folder: Path, hash_: str) -> TrainingSet:
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"hash": hash_}))
    return TrainingSet(folder)


def test_a_training_set_on_a_steps_own_disk_is_found_or_copied_below_home(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    inside = training_set(settings.work_dir / "training-sets" / "kept", "a" * 64)
    assert training_sets.below_home(settings, inside).folder == inside.folder
    same = training_set(tmp_path / "artifact" / "a", "a" * 64)
    assert training_sets.below_home(settings, same).folder == inside.folder
    other = training_set(tmp_path / "artifact" / "b", "b" * 64)
    copied = training_sets.below_home(settings, other)
    assert copied.folder.is_relative_to(settings.home)
    assert copied.hash == other.hash
