"""Copies of homes: an embedded index is hundreds of megabytes of empty blocks, and a few of content."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path


def copy(folder: Path, to: Path) -> Path:
    """Copy a folder, on Linux with holes instead of empty blocks; returns the copy."""
    if sys.platform != "linux":  # other systems' cp knows no holes
        return shutil.copytree(folder, to)
    subprocess.run(["cp", "--recursive", "--sparse=always", folder, to], check=True)
    return to
