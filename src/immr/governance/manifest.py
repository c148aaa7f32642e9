"""The manifest: what went in, what was done, what came out, and one hash over all of it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from immr.governance.governance_recipe import GovernanceRecipe
from immr.governance.step_counts import TableStep
from immr.storage import fingerprint
from immr.storage.atomic import write_atomically

FORMAT = 1


def of_rows(batches: Iterable[pa.RecordBatch]) -> dict[str, Any]:
    """Rows and logical SHA-256 of an ordered table: the same however it is chunked, compressed or stored.

    The column `image` says where a picture lies, not what it shows: `image_sha256` stands for it.
    """
    hashes: dict[str, Any] = {}
    rows = 0
    for batch in batches:
        rows += batch.num_rows
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if name != "image":
                _update(hashes, name, column)
    digests = {name: digest.hexdigest() for name, digest in hashes.items()}
    return {"rows": rows, "sha256": fingerprint.of_values(rows, digests)}


def of_file(path: Path) -> dict[str, Any]:
    """The same of a Parquet file."""
    with pq.ParquetFile(path) as file:
        return of_rows(file.iter_batches())


def write(
    folder: Path,
    recipe: GovernanceRecipe,
    inputs: dict[str, Any],
    steps: Sequence[TableStep],
    outputs: dict[str, Any],
    classes: int,
    wrong_judgements: float | None = None,
    held_out: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write `manifest.json`; its `hash` knows nothing of time, place, engine or number of threads.

    `wrong_judgements` is the estimated share of held-out photos with a wrong label; None if people judged
    them, or if it was not estimated. `held_out` has `days_after_training`: how many days after the last training
    photo the first and the last held-out photo were taken; None if both are of the same days. It is None if
    people judged.
    """
    content = {
        "format": FORMAT,
        "recipe": dataclasses.asdict(recipe),
        "inputs": inputs,
        "steps": [dataclasses.asdict(step) for step in steps],
        "outputs": outputs,
        "classes": classes,
        "wrong_judgements": wrong_judgements,
        "held_out": None if held_out is None else dict(held_out),
    }
    manifest = {"hash": fingerprint.of_values(content), **content}
    write_atomically(folder / "manifest.json", json.dumps(manifest, indent=1, ensure_ascii=False))
    return manifest


def _update(hashes: dict[str, Any], name: str, column: pa.Array) -> None:
    missing = np.asarray(column.is_null())
    _feed(hashes, f"{name}:null", missing.tobytes())
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        lengths, text = _text(column.fill_null("").cast(pa.large_string()))
        _feed(hashes, f"{name}:length", lengths)
        _feed(hashes, f"{name}:text", text)
    elif pa.types.is_timestamp(column.type):
        _feed(hashes, name, _numbers(column.cast(pa.timestamp("us")).cast(pa.int64()), "<i8"))
    elif pa.types.is_boolean(column.type):
        _feed(hashes, name, _numbers(column.cast(pa.int8()), "<i1"))
    elif pa.types.is_floating(column.type):
        _feed(hashes, name, _numbers(column.cast(pa.float64()), "<f8"))
    else:
        _feed(hashes, name, _numbers(column.cast(pa.int64()), "<i8"))


def _text(column: pa.LargeStringArray) -> tuple[bytes, memoryview]:
    """Lengths and UTF-8 of all strings, as Arrow holds them: no string is made for a row."""
    _, offsets, content = column.buffers()
    ends = np.frombuffer(offsets, "<i8")[column.offset : column.offset + len(column) + 1]
    return np.diff(ends).tobytes(), memoryview(content or b"")[ends[0] : ends[-1]]


def _numbers(column: pa.Array, dtype: str) -> bytes:
    return np.asarray(column.fill_null(0)).astype(dtype).tobytes()


def _feed(hashes: dict[str, Any], name: str, content: bytes | memoryview) -> None:
    hashes.setdefault(name, hashlib.sha256()).update(content)
