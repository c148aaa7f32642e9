import os
import subprocess
import sys
import time
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist

from immr.errors import TrainingError
from immr.train.world import attempt, gpu_of, world_from_environment
from tests.train import ranks


def test_without_torchrun_there_is_one_rank():
    with world_from_environment() as world:
        assert (world.rank, world.size, world.leads, world.attempt) == (0, 1, True, 0)
        assert world.agree("mine") == "mine" and world.gather("mine") == ["mine"]


def test_attempts_count_torchruns_restarts():
    assert attempt({}) == 0
    assert attempt({"TORCHELASTIC_RESTART_COUNT": "2"}) == 2


def test_each_process_has_a_gpu_of_its_own():
    assert [gpu_of(rank, gpus=2) for rank in range(2)] == ["cuda:0", "cuda:1"]
    with pytest.raises(TrainingError, match=r"this machine has 2 GPUs, and process 3 has none: set"):
        gpu_of(2, gpus=2)


def test_ranks_agree_on_what_the_leader_sees_and_hear_of_each_other(tmp_path):
    """The ranks run this file as a module, see below. At its barrier they wait for longer than torch would."""
    ranks.run("tests.train.test_world", 2, str(tmp_path))
    assert ranks.answers(tmp_path, 2) == [(rank, 2, "seen by 0", ["of 0", "of 1"]) for rank in range(2)]


def test_torchruns_variables_are_read_in_one_place():
    """torchrun's own; what a PyTorchJob's operator sets, PET_*, is read by torchrun."""
    found = subprocess.run(
        ["grep", "-rlE", 'LOCAL_RANK|WORLD_SIZE|TORCHELASTIC|"RANK"|init_process_group', "src/immr"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert [path for path in found.stdout.split() if path.endswith(".py")] == ["src/immr/train/world.py"]


if __name__ == "__main__":
    with world_from_environment() as world:
        rank = world.rank
        found = rank, world.size, world.agree(f"seen by {rank}"), world.gather(f"of {rank}")
        torch.save(found, f"{sys.argv[1]}/2-{os.environ['RANK']}.pt")
        world.barrier()
        dist.distributed_c10d._set_pg_timeout(timedelta(seconds=1))
        if world.leads:
            time.sleep(2)  # as if it exported a version
        world.barrier()
