"""Checkpoints by torch.distributed.checkpoint: written by all ranks together, read by any number of them.

<checkpoints>/after-00000640/        640 photos into the run
    __0_0.distcp, __1_0.distcp, …    what each rank wrote
    .metadata                        where each piece of each tensor is
    complete.json                    written last: key, progress, the size of every file

A folder is renamed when all of it is on disk, so a power cut leaves a complete checkpoint or none. A folder whose
files do not match complete.json is ignored.

On a GPU, a checkpoint is copied to the host and written by a thread while training continues.
"""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch import nn, optim
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save, save
from torch.distributed.checkpoint.stateful import Stateful

from immr.errors import TrainingError
from immr.storage.atomic import write_atomically
from immr.train.world import World

Parts = Mapping[str, Stateful]
"""What is saved, by name. Each part has tensors of the right shape before its first step."""

_MARKER = "complete.json"
_NOT_WRITTEN = "could not write the checkpoint {}: is the disk full?"
_KEPT = 2
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LearnedState:
    """A module and its optimizer, saved by parameter names that do not depend on DDP or FSDP2."""

    module: nn.Module
    optimizer: optim.Optimizer

    def state_dict(self) -> dict[str, Any]:
        """Parameters, buffers and optimizer state by parameter name."""
        module, optimizer = get_state_dict(self.module, self.optimizer)
        return {"module": module, "optimizer": optimizer}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a saved state."""
        set_state_dict(
            self.module,
            self.optimizer,
            model_state_dict=state_dict["module"],
            optim_state_dict=state_dict["optimizer"],
        )


@dataclass
class Checkpoints:
    """The checkpoints of one run. `key` identifies what is trained; checkpoints of another key are never read."""

    folder: Path
    key: str
    world: World
    in_background: bool | None = None  # write while training continues; None: on a GPU

    def __post_init__(self) -> None:
        if self._alone:
            # intended; a filter of one call would end before a writing thread warns
            warnings.filterwarnings("ignore", "torch.distributed is disabled")
        if self.in_background is None:
            self.in_background = self.world.device.startswith("cuda")
        self._written: Future[None] | None = None  # the checkpoint being written
        self._group: Any = None  # the writing threads' messages must not mix with those of training

    def save(self, photos: int, parts: Parts, progress: Mapping[str, Any]) -> None:
        """Write the parts, or copy them and start to write. All ranks call this together.

        Args:
            photos: seen by all ranks since the start of the run.
            parts: of this rank; a `DTensor` is written in pieces, other tensors once.
            progress: plain values, the same on all ranks.

        Raises:
            TrainingError: a rank could not write this checkpoint, or the one before.
        """
        self.wait()
        aside = self._aside(photos)
        marker = {"key": self.key, "photos": photos, "progress": copy.deepcopy(dict(progress))}
        if self.world.leads:
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
        self.world.barrier()
        if self.in_background:
            self._start(photos, parts, marker)
            return
        with _as_training_error(_NOT_WRITTEN.format(aside)):
            save(dict(parts), storage_writer=FileSystemWriter(aside), no_dist=self._alone)  # fsyncs
        self._complete(marker)
        self.world.barrier()

    def wait(self) -> None:
        """Wait for the checkpoint that is being written.

        Raises:
            TrainingError: a rank could not write it.
        """
        written, self._written = self._written, None
        if written is not None:
            with _as_training_error(_NOT_WRITTEN.format(self.folder)):
                written.result()

    def _start(self, photos: int, parts: Parts, marker: dict[str, Any]) -> None:
        if self._group is None and not self._alone:
            self._group = dist.new_group(backend="gloo")
        aside = self._aside(photos)
        with _as_training_error(_NOT_WRITTEN.format(aside)):
            saving = async_save(
                dict(parts),
                storage_writer=FileSystemWriter(aside),
                process_group=self._group,
                no_dist=self._alone,
            )
        assert isinstance(saving, Future)
        written = self._written = Future[None]()

        def complete(saved: Future[Any]) -> None:
            try:
                saved.result()
                self._complete(marker)  # the leader's part is done when those of all ranks are
            except BaseException as error:
                written.set_exception(error)
            else:
                written.set_result(None)

        saving.add_done_callback(complete)

    def _complete(self, marker: dict[str, Any]) -> None:
        """Give the folder its name, now that all of it is on disk."""
        if not self.world.leads:
            return
        aside, whole = self._aside(marker["photos"]), self._whole_path(marker["photos"])
        files = {path.name: path.stat().st_size for path in sorted(aside.iterdir())}
        write_atomically(aside / _MARKER, json.dumps(marker | {"files": files}, indent=1))
        _sync(aside)
        shutil.rmtree(whole, ignore_errors=True)
        aside.rename(whole)
        _sync(self.folder)
        self._forget_old()

    def _whole_path(self, photos: int) -> Path:
        return self.folder / f"after-{photos:08d}"

    def _aside(self, photos: int) -> Path:
        """Where a checkpoint is written before it is complete."""
        whole = self._whole_path(photos)
        return whole.with_name(f".{whole.name}")

    def load(self, parts: Parts) -> dict[str, Any] | None:
        """Load the newest complete checkpoint of this key into the parts, after any that is being written.

        Returns:
            Its progress; None if there is no checkpoint.

        Raises:
            TrainingError: a complete checkpoint cannot be read.
        """
        self.wait()
        newest = self.world.agree(max(self._whole(), default=None))
        if newest is None:
            return None
        path = self._whole_path(newest)
        with _as_training_error(
            f"could not read the checkpoint {path}: delete it to resume from an earlier one"
        ):
            load(dict(parts), storage_reader=FileSystemReader(path), no_dist=self._alone)
        marker = json.loads((path / _MARKER).read_text())
        _log.info("resuming from the checkpoint after %d photos", marker["photos"])
        progress: dict[str, Any] = marker["progress"]
        return progress

    def clear(self) -> None:
        """Delete all checkpoints at the end of the run."""
        self.wait()
        self.world.barrier()
        if self.world.leads:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.world.barrier()

    @property
    def _alone(self) -> bool:
        return self.world.size == 1

    def _whole(self) -> list[int]:
        """After how many photos the complete checkpoints of this key are, in order."""
        found = (self._photos_of(path) for path in self.folder.glob(f"after-*/{_MARKER}"))
        return sorted(photos for photos in found if photos is not None)

    def _photos_of(self, marker: Path) -> int | None:
        try:
            recorded = json.loads(marker.read_text())
            sizes = {name: (marker.parent / name).stat().st_size for name in recorded["files"]}
        except (ValueError, OSError):
            return None
        is_whole = recorded["key"] == self.key and sizes == recorded["files"]
        return int(recorded["photos"]) if is_whole else None

    def _forget_old(self) -> None:
        for photos in self._whole()[:-_KEPT]:
            shutil.rmtree(self._whole_path(photos), ignore_errors=True)


@contextlib.contextmanager
def _as_training_error(sentence: str) -> Iterator[None]:
    try:
        yield
    except (CheckpointException, OSError) as error:  # a RuntimeError means that another rank died
        raise TrainingError(f"{sentence} ({error})") from error


def _sync(folder: Path) -> None:
    """Flush a folder's directory entries to disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
