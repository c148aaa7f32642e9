"""Copies of homes: an embedded index is hundreds of megabytes of empty blocks, and a few of content."""

from __future__ import annotations

import subprocess
from pathlib import Path


def copy(folder: Path, to: Path) -> Path:
    """Copy a folder, with holes instead of empty blocks; returns the copy."""
    subprocess.run(["cp", "--recursive", "--sparse=always", folder, to], check=True)
    return to
