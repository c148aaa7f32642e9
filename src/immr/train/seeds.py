"""Seeds for the parts of a run, each from the run's one seed. Pure."""

from __future__ import annotations

import numpy as np


def derived_seed(seed: int, *place: int) -> int:
    """A 63-bit seed for a place (epoch, rank, …) in the run; places give unrelated streams."""
    return int(np.random.SeedSequence([seed, *place]).generate_state(1, np.uint64)[0] >> np.uint64(1))
