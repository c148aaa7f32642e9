"""Seeds for the parts of a run, derived from the run's seed. Pure."""

from __future__ import annotations

import numpy as np


def derived_seed(seed: int, *place: int) -> int:
    """A 63-bit seed for a place in the run (epoch, rank, …); different places give unrelated streams."""
    # SeedSequence pads with zeros, so without the length (0,) and (0, 0) would be the same place
    entropy = np.random.SeedSequence([len(place), seed, *place])
    return int(entropy.generate_state(1, np.uint64)[0] >> np.uint64(1))
