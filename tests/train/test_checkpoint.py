import torch

from immr.train.checkpoint import Checkpoints
from immr.train.world import World


def _state(value: float) -> dict[str, torch.Tensor]:
    return {"value": torch.tensor(value)}


def test_newest_complete_comes_back_and_old_ones_go(tmp_path):
    checkpoints = Checkpoints(tmp_path / "run", "key", World())
    assert checkpoints.newest() is None
    for epoch in (5, 10, 15):
        checkpoints.save(epoch, _state(epoch))
    newest = checkpoints.newest()
    assert newest is not None and newest[0] == 15 and newest[1]["value"] == 15.0
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["epoch-0010", "epoch-0015"]
    checkpoints.clear()
    assert not (tmp_path / "run").exists()


def test_half_written_ones_are_never_read(tmp_path):
    checkpoints = Checkpoints(tmp_path, "key", World())
    checkpoints.save(5, _state(5))
    checkpoints.save(10, _state(10))
    (tmp_path / "epoch-0010" / "complete.json").unlink()
    (tmp_path / ".epoch-0015").mkdir()
    newest = checkpoints.newest()
    assert newest is not None and newest[0] == 5
    checkpoints.save(15, _state(15))
    newest = checkpoints.newest()
    assert newest is not None and newest[0] == 15


def test_those_of_another_key_or_world_are_not_ours(tmp_path):
    Checkpoints(tmp_path, "key", World()).save(5, _state(5))
    assert Checkpoints(tmp_path, "other", World()).newest() is None
    assert Checkpoints(tmp_path, "key", World(0, 2)).newest() is None
