import shutil
from unittest import mock

import pytest
import torch
from torch import nn

from immr.errors import TrainingError
from immr.train.checkpoint import Checkpoints, LearnedState
from immr.train.world import World


class Value:
    """A minimal part with a state."""

    def __init__(self, value: float):
        self.value = torch.tensor(value)

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {"value": self.value}

    def load_state_dict(self, state_dict: dict[str, torch.Tensor]) -> None:
        self.value = state_dict["value"]


def _save(checkpoints: Checkpoints, photos: int) -> None:
    checkpoints.save(photos, {"part": Value(photos)}, {"epoch": photos, "loss": [0.1 + photos]})


def _load(checkpoints: Checkpoints) -> float | None:
    part = Value(-1)
    progress = checkpoints.load({"part": part})
    assert progress is None or progress == {"epoch": int(part.value), "loss": [0.1 + int(part.value)]}
    return float(part.value) if progress else None


def test_the_newest_complete_checkpoint_is_loaded_and_old_ones_deleted(tmp_path):
    checkpoints = Checkpoints(tmp_path / "run", "key", World())
    assert _load(checkpoints) is None
    for photos in (5, 10, 15):
        _save(checkpoints, photos)
    assert _load(checkpoints) == 15
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["after-00000010", "after-00000015"]
    checkpoints.clear()
    assert not (tmp_path / "run").exists()


def test_a_run_of_more_photos_than_eight_digits_continues_from_its_newest_checkpoint(tmp_path):
    checkpoints = Checkpoints(tmp_path, "key", World())
    for photos in (99_999_990, 99_999_995, 100_000_000, 100_000_005):
        _save(checkpoints, photos)
    assert _load(checkpoints) == 100_000_005
    assert {path.name for path in tmp_path.iterdir()} == {"after-100000000", "after-100000005"}


@pytest.mark.parametrize("name", ["complete.json", ".metadata", "__0_0.distcp"])
@pytest.mark.parametrize("damage", ["gone", "cut short"])
def test_an_incomplete_checkpoint_is_never_loaded(tmp_path, name, damage):
    checkpoints = Checkpoints(tmp_path, "key", World())
    _save(checkpoints, 5)
    _save(checkpoints, 10)
    # interrupted before its rename
    shutil.copytree(tmp_path / "after-00000010", tmp_path / ".after-00000015")
    # a disk that kept the rename but lost the content despite fsync
    victim = tmp_path / "after-00000010" / name
    if damage == "gone":
        victim.unlink()
    else:
        victim.write_bytes(victim.read_bytes()[:-7])
    assert _load(checkpoints) == 5
    _save(checkpoints, 15)
    assert _load(checkpoints) == 15


def test_an_unreadable_checkpoint_is_an_error_with_a_remedy(tmp_path):
    checkpoints = Checkpoints(tmp_path, "key", World())
    _save(checkpoints, 5)
    metadata = tmp_path / "after-00000005" / ".metadata"
    metadata.write_bytes(b"x" * metadata.stat().st_size)
    with pytest.raises(TrainingError, match=r"could not read the checkpoint .*after-00000005: delete it"):
        _load(checkpoints)


def test_checkpoints_of_another_key_are_ignored(tmp_path):
    _save(Checkpoints(tmp_path, "key", World()), 5)
    assert _load(Checkpoints(tmp_path, "other", World())) is None


def test_a_module_and_its_optimizer_resume_exactly(tmp_path):
    def learned(seed: int) -> LearnedState:
        torch.manual_seed(seed)
        module = nn.Linear(3, 2)
        return LearnedState(module, torch.optim.AdamW(module.parameters(), lr=0.1))

    def step(part: LearnedState) -> None:
        part.optimizer.zero_grad()
        torch.autograd.backward(part.module(torch.ones(4, 3)).square().sum())
        part.optimizer.step()

    checkpoints = Checkpoints(tmp_path, "key", World())
    one, other = learned(0), learned(1)
    step(one)
    checkpoints.save(1, {"part": one}, {"epoch": 1})
    assert checkpoints.load({"part": other}) == {"epoch": 1}
    step(one)
    step(other)
    for ours, theirs in zip(one.module.parameters(), other.module.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_one_written_in_the_background_has_the_state_of_its_start(tmp_path):
    checkpoints, part = Checkpoints(tmp_path, "key", World(), in_background=True), Value(5)
    checkpoints.save(5, {"part": part}, {"epoch": 5, "loss": [5.1]})
    part.value += 1
    checkpoints.wait()
    assert _load(checkpoints) == 5
    _save(checkpoints, 10)
    assert _load(checkpoints) == 10, "loading waits"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["after-00000005", "after-00000010"]
    checkpoints.clear()
    assert not tmp_path.exists()


def test_a_background_error_reaches_the_next_save(tmp_path):
    checkpoints = Checkpoints(tmp_path / "run", "key", World(), in_background=True)
    _save(checkpoints, 5)
    checkpoints.wait()
    (tmp_path / "run" / ".after-00000010").mkdir()
    with mock.patch("immr.train.checkpoint.write_atomically", side_effect=OSError("disk full")):
        _save(checkpoints, 10)
        with pytest.raises(TrainingError, match=r"could not write the checkpoint.*disk full"):
            checkpoints.wait()
    assert _load(checkpoints) == 5
