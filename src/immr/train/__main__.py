"""`python -m immr.train job.json`, alone or as one of torchrun's processes."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from immr.errors import ImmrError
from immr.storage.atomic import write_atomically
from immr.train.world import attempt


def main(job_file: Path) -> int:
    """Run the job and return its exit code.

    torchrun restarts failed processes whatever the cause. That helps a killed process, but an ImmrError would
    recur. So the first attempt writes it next to the job file, and later attempts report it without training.
    """
    last_words = job_file.with_suffix(".failed")
    if attempt() and last_words.is_file():
        return _failed(last_words.read_text())
    last_words.unlink(missing_ok=True)
    try:
        _run(job_file)
    except ImmrError as error:
        write_atomically(last_words, str(error))
        return _failed(str(error))
    return 0


def _run(job_file: Path) -> None:
    from immr.train.job import TrainJob, run

    job = TrainJob.read(job_file)  # before importing torch, which takes seconds

    import torch

    from immr.machine.allocator import keep_freed_memory
    from immr.machine.library_log import libraries_log_to, show_own_messages
    from immr.train.world import world_from_environment

    keep_freed_memory()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    show_own_messages()
    with libraries_log_to(job_file.with_suffix(".log")), world_from_environment() as world:
        logging.getLogger("immr").setLevel(logging.INFO if world.leads else logging.WARNING)
        if world.attempt and world.leads:
            logging.getLogger("immr").warning(
                "a process died and all were restarted (attempt %d)", world.attempt
            )
        run(job, world)


def _failed(why: str) -> int:
    print(f"training error: {why}", file=sys.stderr, flush=True)
    return 1


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m immr.train job.json")
    sys.exit(main(Path(sys.argv[1])))
