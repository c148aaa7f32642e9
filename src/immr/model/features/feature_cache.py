"""Cache of features on disk by content hash, in shards. Writes are atomic: safe with many writers and Ctrl-C.

Entries are ragged: one is (L, F) with its own L (1 for a pooled picture, P for patches, T for tokens).
"""

from __future__ import annotations

import io
import logging
import zipfile
from collections.abc import Mapping, Sequence, Set
from pathlib import Path

import numpy as np
import numpy.typing as npt

from immr.storage import fingerprint
from immr.storage.atomic import write_atomically

HalfArray = npt.NDArray[np.float16]
_log = logging.getLogger(__name__)


class FeatureCache:
    """The float16 features of one encoder and one view."""

    def __init__(self, folder: Path):
        self.folder = folder

    def add(self, entries: Mapping[str, HalfArray]) -> None:
        """Write a shard with these entries, key → (L, F)."""
        keys = sorted(entries)
        if not keys:
            return
        buffer = io.BytesIO()
        np.savez(
            buffer,
            keys=np.array(keys),
            lengths=np.array([len(entries[key]) for key in keys]),
            values=np.concatenate([entries[key] for key in keys]).astype(np.float16),
        )
        write_atomically(self.folder / f"{fingerprint.of_values(keys)[:32]}.npz", buffer.getvalue())

    def read(self, keys: Sequence[str]) -> dict[str, HalfArray]:
        """Entries of the keys that are cached. Deletes shards that cannot be read, so that they are recomputed."""
        wanted, found = set(keys), dict[str, HalfArray]()
        for path in sorted(self.folder.glob("[!.]*.npz")):
            if wanted <= found.keys():
                break
            found |= _read_shard(path, wanted - found.keys())
        return found


def _read_shard(path: Path, wanted: Set[str]) -> dict[str, HalfArray]:
    """The wanted entries of a shard. Its values are read only if it has any of them."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as shard:
            keys = shard["keys"].tolist()
            rows = [row for row, key in enumerate(keys) if key in wanted]
            if not rows:
                return {}
            ends, values = np.cumsum(shard["lengths"]), shard["values"]
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        _log.warning("deleting the broken feature shard %s; its features are recomputed", path)
        path.unlink(missing_ok=True)
        return {}
    starts = np.concatenate([[0], ends[:-1]])
    # copies, so that one entry does not keep its whole shard in memory
    return {keys[row]: values[starts[row] : ends[row]].copy() for row in rows}
