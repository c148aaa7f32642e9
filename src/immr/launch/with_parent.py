"""`python -m immr.launch.with_parent PARENT MODULE ARGS…`: run a module that ends when its parent does.

A parent that is killed cannot stop its children. On Linux the kernel does: it sends them SIGTERM.
PARENT is the process id of the expected parent, or 0 to accept any parent.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ask the kernel for the signal, then run the module as `python -m` does."""
    parent, module = int(sys.argv[1]), sys.argv[2]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if parent and os.getppid() != parent:
        sys.exit("the parent process ended before this one started")
    sys.argv = sys.argv[2:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
