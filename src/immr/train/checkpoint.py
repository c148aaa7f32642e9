"""Checkpoints: one file per rank, in a folder that is renamed into place when all of it is there.

<checkpoints>/epoch-0005/rank-0.pt, rank-1.pt, …, complete.json
"""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from immr.train.world import World

_MARKER = "complete.json"
_KEPT = 2
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one run; `key` names what it trains, and those of another key are never read."""

    folder: Path
    key: str
    world: World

    def save(self, epoch: int, state: dict[str, Any]) -> None:
        """Write every rank's state after `epoch` finished epochs. All ranks call it together."""
        whole = self.folder / f"epoch-{epoch:04d}"
        aside = self.folder / f".{whole.name}"
        if self.world.leads:
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
        self.world.barrier()
        torch.save(state, aside / f"rank-{self.world.rank}.pt")
        self.world.barrier()
        if self.world.leads:
            marker = {"epoch": epoch, "processes": self.world.size, "key": self.key}
            (aside / _MARKER).write_text(json.dumps(marker))
            shutil.rmtree(whole, ignore_errors=True)
            aside.rename(whole)
            self._forget_old()
        self.world.barrier()

    def newest(self) -> tuple[int, dict[str, Any]] | None:
        """Finished epochs and this rank's state, from the newest complete checkpoint of this key."""
        for epoch, path in reversed(self._complete()):
            state: dict[str, Any] = torch.load(
                path / f"rank-{self.world.rank}.pt", map_location="cpu", weights_only=True
            )
            _log.info("going on from the checkpoint after epoch %d", epoch)
            return epoch, state
        return None

    def clear(self) -> None:
        """Remove them all; the run is done."""
        if self.world.leads:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.world.barrier()

    def _complete(self) -> list[tuple[int, Path]]:
        found = []
        for path in self.folder.glob("epoch-*"):
            if (path / _MARKER).is_file():
                marker = json.loads((path / _MARKER).read_text())
                if marker["key"] == self.key and marker["processes"] == self.world.size:
                    found.append((int(marker["epoch"]), path))
        return sorted(found)

    def _forget_old(self) -> None:
        for _, path in self._complete()[:-_KEPT]:
            shutil.rmtree(path, ignore_errors=True)
