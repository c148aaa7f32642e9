"""`python -m immr.train job.json`, alone or as one of torchrun's processes."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from immr.errors import ImmrError
from immr.train.job import TrainJob, run
from immr.train.world import world_from_environment


def main(job_file: Path) -> int:
    """Run the job; the exit code."""
    import torch

    from immr.train.allocator import keep_freed_memory

    keep_freed_memory()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        with world_from_environment() as world:
            logging.getLogger("immr").setLevel(logging.INFO if world.leads else logging.WARNING)
            run(TrainJob.read(job_file), world)
    except ImmrError as error:
        print(f"training error: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m immr.train job.json")
    sys.exit(main(Path(sys.argv[1])))
