"""A build that kills itself: `python -m tests.index.dying_build URL METHOD NTH` dies at the NTH call."""

import os
import signal
import sys
from datetime import UTC, datetime

import numpy as np

from immr.index.qdrant import QdrantIndex
from immr.types import Item, ModelVersion

VERSION = ModelVersion("immr", 3, "key", "run", 16, "prep", "manifest", "concept")
BATCH_POINTS = 20
ROWS = 50


def documents(price):
    """Items with this price, and their embeddings."""
    when = datetime(2025, 1, 1, tzinfo=UTC)
    items = [
        Item(f"i{n}", f"title {n}", "text", f"Fruit/{n % 9}", f"{n}.jpg", price, when) for n in range(ROWS)
    ]
    vectors = np.random.default_rng(7).normal(size=(ROWS, VERSION.dim)).astype(np.float32)
    return items, vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class Dying:
    """Forwards to an object; kills the process when the method is called for the nth time."""

    def __init__(self, behind, method, nth):
        self._behind, self._method, self._left = behind, method, nth

    def __getattr__(self, name):
        if name == self._method:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        found = getattr(self._behind, name)
        if name == "engine":
            return lambda content: Dying(found(content), self._method, self._left)
        return found


def main(url, method, nth):
    index = QdrantIndex(url, batch_points=BATCH_POINTS)
    index._storage = Dying(index._storage, method, nth)
    index.build(VERSION, *documents(price=9.0))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
