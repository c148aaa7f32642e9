"""The progress of a run: what a checkpoint saves of it, and how it is displayed."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from immr.machine.progress_bar import ProgressBar

Curves = dict[str, list[float]]
"""One number per epoch: loss (sum of the others), loss_query, loss_document, loss_pair, learning_rate."""


@dataclass
class Progress:
    """Position in the run, in photos of all ranks, so a different number of ranks can resume."""

    epoch: int = 0  # finished epochs
    photos: int = 0  # seen in the current epoch
    steps: int = 0  # in the sums
    loss_sums: list[float] = field(
        default_factory=lambda: [0.0, 0.0, 0.0]
    )  # query, document, pair; of this epoch's steps
    curves: Curves = field(default_factory=dict)

    def advance(self, photos: int) -> None:
        """Count the photos of one step of this epoch."""
        self.photos += photos

    def record(self, losses: list[float]) -> None:
        """Add the losses of one step of this epoch; on a GPU they are read some steps later."""
        self.steps += 1
        self.loss_sums = [before + loss for before, loss in zip(self.loss_sums, losses, strict=True)]

    def end_epoch(self, learning_rate: float) -> None:
        """Append the epoch's means to the curves."""
        query, document, pair = (total / max(1, self.steps) for total in self.loss_sums)
        means = {
            "loss": query + document + pair,
            "loss_query": query,
            "loss_document": document,
            "loss_pair": pair,
        }
        for name, value in (means | {"learning_rate": learning_rate}).items():
            self.curves.setdefault(name, []).append(value)
        self.epoch, self.photos, self.steps, self.loss_sums = self.epoch + 1, 0, 0, [0.0, 0.0, 0.0]

    def to_dict(self) -> dict[str, Any]:
        """Plain values; floats survive JSON bit for bit."""
        return asdict(self)


class Display:
    """Shows photos per second, loss and remaining time."""

    def __init__(self, epochs: int, photos_per_epoch: int, start: Progress, shown: bool):
        self._epochs, self._epoch_photos = epochs, photos_per_epoch
        self._seen = start.epoch * photos_per_epoch + start.photos
        self._bar = ProgressBar("training", epochs * photos_per_epoch, "photos", shown, self._seen)

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.__exit__(*error)

    def step(self, progress: Progress, loss: float) -> None:
        """Show the position, and the loss of the last step that was read."""
        seen = progress.epoch * self._epoch_photos + progress.photos
        self._bar.advance(seen - self._seen, f"loss {loss:.3f}, epoch {progress.epoch + 1} of {self._epochs}")
        self._seen = seen

    def epoch(self, progress: Progress) -> None:
        """Log the epoch that has just ended."""
        self._bar.log(f"epoch {progress.epoch} of {self._epochs}: loss {progress.curves['loss'][-1]:.4f}")
