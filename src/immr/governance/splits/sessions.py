"""Sessions: photos that one user took in one go."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from immr.data.time_steps import MINUTE_US, step_between
from immr.governance.labels.class_scores import Ints

_GAP_US = 30 * MINUTE_US
_HOUR_US = 60 * MINUTE_US


def microseconds(times: pa.ChunkedArray) -> Ints:
    """(N,) microseconds since 1970."""
    found: Ints = times.cast(pa.timestamp("us")).cast(pa.int64()).to_numpy()
    return found


def sessions(users: pa.ChunkedArray, times: pa.ChunkedArray) -> Ints:
    """(N,) session of each photo: one user's photos, each at most half an hour after the one before.

    If times are rounded to hours, photos of two consecutive hours are one session too: those of 10:59 and 11:01
    would otherwise never be.
    """
    user_N, time_N = numbered(users), microseconds(times)
    gap = _HOUR_US if step_between(time_N) == _HOUR_US else _GAP_US
    order = np.lexsort((time_N, user_N))
    new = np.diff(user_N[order], prepend=-1) != 0
    new |= np.diff(time_N[order], prepend=time_N[order[:1]]) > gap
    session_N = np.empty(len(order), np.int64)
    session_N[order] = np.cumsum(new)
    return session_N


def numbered(values: pa.ChunkedArray) -> Ints:
    """(N,) a number for each distinct value."""
    numbers: Ints = values.combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
    return numbers
