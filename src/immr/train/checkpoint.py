"""Checkpoints by torch.distributed.checkpoint: written by all ranks together, read by any number of them.

<checkpoints>/after-00000640/        640 photos into the run
    __0_0.distcp, __1_0.distcp, …    what each rank wrote
    .metadata                        where each piece of each tensor is
    complete.json                    written last: key, progress, the size of every file

A folder gets its name when all of it is on the disk, so a power cut leaves a whole one or none; a folder
whose files are not as complete.json says is passed over all the same.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn, optim
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.checkpoint.stateful import Stateful

from immr.errors import TrainingError
from immr.storage.atomic import write_atomically
from immr.train.world import World

Parts = Mapping[str, Stateful]
"""What is saved, by name. Each gives tensors of the shapes to be loaded before it has learned anything."""

_MARKER = "complete.json"
_KEPT = 2
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Learned:
    """A module and the optimizer of its parameters; their names in a checkpoint survive DDP and FSDP2."""

    module: nn.Module
    optimizer: optim.Optimizer

    def state_dict(self) -> dict[str, Any]:
        """Parameters, buffers and the optimizer's state by parameter name."""
        module, optimizer = get_state_dict(self.module, self.optimizer)
        return {"module": module, "optimizer": optimizer}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        set_state_dict(
            self.module,
            self.optimizer,
            model_state_dict=state_dict["module"],
            optim_state_dict=state_dict["optimizer"],
        )


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one run; `key` names what it trains, and those of another key are never read."""

    folder: Path
    key: str
    world: World

    def save(self, photos: int, parts: Parts, progress: Mapping[str, Any]) -> None:
        """Write the parts after so many photos of the run. All ranks call it together.

        Args:
            photos: seen by all ranks since the run began; grows, whatever the number of ranks.
            parts: of this rank; tensors that are a `DTensor` are written in pieces, others once.
            progress: plain values, the same on all ranks.

        Raises:
            TrainingError: it could not be written, on any rank.
        """
        whole = self.folder / f"after-{photos:08d}"
        aside = self.folder / f".{whole.name}"
        if self.world.leads:
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
        self.world.barrier()
        with self._as_training_error(f"could not write the checkpoint {whole}: is the disk full?"):
            save(dict(parts), storage_writer=FileSystemWriter(aside), no_dist=self._alone)  # fsyncs
        if self.world.leads:
            files = {path.name: path.stat().st_size for path in sorted(aside.iterdir())}
            marker = {"key": self.key, "photos": photos, "progress": dict(progress), "files": files}
            write_atomically(aside / _MARKER, json.dumps(marker, indent=1))
            _sync(aside)
            shutil.rmtree(whole, ignore_errors=True)
            aside.rename(whole)
            _sync(self.folder)
            self._forget_old()
        self.world.barrier()

    def load(self, parts: Parts) -> dict[str, Any] | None:
        """Bring the parts to the newest whole checkpoint of this key; its progress, None where there is none.

        Raises:
            TrainingError: it cannot be read although it is whole.
        """
        newest = self.world.agree(max(self._whole(), default=None))
        if newest is None:
            return None
        path = self.folder / newest
        with self._as_training_error(f"could not read the checkpoint {path}: delete it to go on from before"):
            load(dict(parts), storage_reader=FileSystemReader(path), no_dist=self._alone)
        marker = json.loads((path / _MARKER).read_text())
        _log.info("going on from the checkpoint after %d photos", marker["photos"])
        progress: dict[str, Any] = marker["progress"]
        return progress

    def clear(self) -> None:
        """Remove them all; the run is done."""
        if self.world.leads:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.world.barrier()

    @property
    def _alone(self) -> bool:
        return self.world.size == 1

    def _whole(self) -> list[str]:
        return sorted(
            path.parent.name for path in self.folder.glob(f"after-*/{_MARKER}") if self._is_whole(path)
        )

    def _is_whole(self, marker: Path) -> bool:
        try:
            told = json.loads(marker.read_text())
            sizes = {name: (marker.parent / name).stat().st_size for name in told["files"]}
        except (ValueError, OSError):
            return False
        return bool(told["key"] == self.key and sizes == told["files"])

    def _forget_old(self) -> None:
        for name in self._whole()[:-_KEPT]:
            shutil.rmtree(self.folder / name, ignore_errors=True)

    @contextlib.contextmanager
    def _as_training_error(self, sentence: str) -> Iterator[None]:
        with warnings.catch_warnings():
            # being alone is no accident
            warnings.filterwarnings("ignore", "torch.distributed is disabled")
            try:
                yield
            except CheckpointException as error:  # not RuntimeError: that is another rank that died
                raise TrainingError(f"{sentence} ({error})") from error


def _sync(folder: Path) -> None:
    """Bring a folder's list of names to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
