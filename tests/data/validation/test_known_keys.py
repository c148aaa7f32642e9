import numpy as np
import pandas as pd

from immr.data.validation.known_keys import KnownKeys, hashes_of


def test_keys_are_known_after_they_are_added() -> None:
    rng = np.random.default_rng(0)
    keys = np.unique(rng.integers(0, 2**63, 10_000, dtype=np.uint64))
    rng.shuffle(keys)
    known = KnownKeys()
    for start in range(0, 8_000, 371):
        part = keys[start : min(start + 371, 8_000)]
        assert not known.contain(part).any()
        known.add(part)
    assert known.contain(keys[:8_000]).all()
    assert not known.contain(keys[8_000:]).any()


def test_the_runs_stay_few() -> None:
    known = KnownKeys()
    for start in range(0, 4096, 4):
        known.add(np.arange(start, start + 4, dtype=np.uint64))
    assert len(known._runs) <= 11


def test_the_hash_depends_on_the_named_columns_only() -> None:
    frame = pd.DataFrame({"query_id": ["a", "a", "b"], "item_id": ["x", "x", "x"], "position": [1, 2, 3]})
    first, second, third = hashes_of(frame, ("query_id", "item_id"))
    assert first == second != third
