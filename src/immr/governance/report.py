"""The governance report: one HTML file that shows what was kept, what was dropped and why, with pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from immr.data.pictures.thumbnails import thumbnail
from immr.data.table_chunks import printed
from immr.data.validation.tables import rejected_files
from immr.governance.step_counts import EXAMPLES, Example
from immr.storage.atomic import write_atomically

_REASONS_IN_SUMMARY = 5
_CLASSES_SHOWN = 6
_ITEMS_PER_CLASS = 3
_PHOTOS_PER_CLASS = 4
_THUMBNAIL_PX = 84


@dataclass(frozen=True)
class _Picture:
    """A thumbnail as a data URI (empty without a picture) and its caption."""

    source: str
    caption: str


@dataclass(frozen=True)
class _ClassCard:
    """One class, with pictures of its items and some of its photos."""

    class_id: int
    photos_in_all: int
    items_in_all: int
    items: Sequence[_Picture]
    photos: Sequence[_Picture]


@dataclass(frozen=True)
class _Summary:
    """What became of the photos of the click log."""

    photos_in: int
    photos_out: int
    dropped: Sequence[tuple[str, int]]  # the most frequent reasons and their photos


@dataclass(frozen=True)
class _Changed:
    """Rows that a step dropped or changed for one reason, and examples of them."""

    step: str
    reason: str
    rows: int
    pictures: list[_Picture]


@dataclass(frozen=True)
class _Rejected:
    """Rows of one table that break the data contract for one reason, and examples of them."""

    table: str
    reason: str
    rows: int
    examples: Sequence[str]


def write(folder: Path, manifest: dict[str, Any], examples: Sequence[Example]) -> None:
    """Write `report.html` beside the manifest.

    Args:
        folder: the training set as written so far.
        manifest: its content.
        examples: rows that were dropped or changed by a step, with their image.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("immr.governance", package_path=""), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["n"] = lambda number: f"{number:,}"
    sizes = _class_sizes(folder, manifest["classes"])
    order = np.argsort(-sizes, kind="stable")
    largest, smallest = order[:_CLASSES_SHOWN], order[max(_CLASSES_SHOWN, len(order) - _CLASSES_SHOWN) :]
    page = environment.get_template("report.html.j2").render(
        manifest=manifest,
        summary=_summary(manifest),
        steps=[{**step, "share": step["rows_out"] / max(step["rows_in"], 1)} for step in manifest["steps"]],
        sizes=sizes[order].tolist(),
        median=float(np.median(sizes)),
        without_photo=int((sizes == 0).sum()),
        largest=_cards(folder, largest, sizes),
        smallest=_cards(folder, smallest, sizes),
        grouped=_cards(folder, _grouped(folder), sizes),
        changed=_changed(examples),
        rejected=_rejected(folder, manifest),
    )
    write_atomically(folder / "report.html", page)


def _class_sizes(folder: Path, classes: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """(C,) training photos per class."""
    class_ids = pq.read_table(folder / "queries.parquet", columns=["class_id"])["class_id"]
    return np.bincount(class_ids.to_numpy(), minlength=classes).astype(np.int64)


def _cards(folder: Path, class_ids: Sequence[int] | np.ndarray[Any, Any], sizes: Any) -> list[_ClassCard]:
    wanted = [int(class_id) for class_id in class_ids]
    if not wanted:
        return []
    filters = [("class_id", "in", wanted)]
    items = pq.read_table(
        folder / "items.parquet", columns=["class_id", "image", "title"], filters=filters
    ).to_pylist()
    photos = pq.read_table(
        folder / "queries.parquet", columns=["class_id", "image", "weight"], filters=filters
    ).to_pylist()
    return [_card(class_id, int(sizes[class_id]), items, photos) for class_id in wanted]


def _card(
    class_id: int, photos_in_all: int, items: list[dict[str, Any]], photos: list[dict[str, Any]]
) -> _ClassCard:
    own_items = [row for row in items if row["class_id"] == class_id]
    own_photos = [row for row in photos if row["class_id"] == class_id][:_PHOTOS_PER_CLASS]
    return _ClassCard(
        class_id,
        photos_in_all,
        len(own_items),
        [_Picture(_small(row["image"]), row["title"]) for row in own_items[:_ITEMS_PER_CLASS]],
        [_Picture(_small(row["image"]), f"weight {row['weight']:.2f}") for row in own_photos],
    )


def _grouped(folder: Path) -> Sequence[int]:
    """The classes with more than one item, largest first."""
    class_ids = pq.read_table(folder / "items.parquet", columns=["class_id"])["class_id"]
    items = np.bincount(class_ids.to_numpy())
    largest = np.argsort(-items, kind="stable")[:_CLASSES_SHOWN]
    return [int(class_id) for class_id in largest if items[class_id] > 1]


def _summary(manifest: Mapping[str, Any]) -> _Summary:
    of_photos = [step for step in manifest["steps"] if step["table"] == "queries"]
    dropped: Counter[str] = Counter()
    for step in of_photos:
        dropped.update(step["dropped"])
    photos_in = of_photos[0]["rows_in"] if of_photos else 0
    return _Summary(
        photos_in, manifest["outputs"]["queries"]["rows"], dropped.most_common(_REASONS_IN_SUMMARY)
    )


def _changed(examples: Sequence[Example]) -> list[_Changed]:
    """One group for each step and reason, the most frequent first."""
    groups: dict[tuple[str, str], _Changed] = {}
    for one in examples:
        group = groups.setdefault((one.step, one.reason), _Changed(one.step, one.reason, one.rows, []))
        group.pictures.append(_Picture(_small(one.row["image"]), _caption(one.step, one.row)))
    return sorted(groups.values(), key=lambda group: -group.rows)


def _caption(step: str, row: Mapping[str, Any]) -> str:
    """What a reader must know about a row to judge whether the step was right."""
    name = row.get("query_id") or row.get("item_id")
    match step:
        case "edges" if row["item_id"]:
            return f"{row['item_id']}: {row['share']:.0%} of the evidence"
        case "appearance":
            given = "not known" if row["given_score"] != row["given_score"] else f"{row['given_score']:.2f}"
            best = f"looks like {row['best_item']} {row['best_score']:.2f}"
            return f"clicked {row['clicked_item']} {given}, {best}"
        case "split":
            return f"{row['item_id']}, class {row['class_id']}"
        case "balance":
            return f"{row['item_id']}, weight {row['weight']:.2f}"
        case _:
            return f"{name} {row.get('detail') or ''}".rstrip()


def _rejected(folder: Path, manifest: Mapping[str, Any]) -> list[_Rejected]:
    """One group for each table and reason, the most frequent first."""
    groups = [
        _Rejected(
            step["table"], reason, rows, _examples(rejected_files(folder / "rejected", step["table"]), reason)
        )
        for step in manifest["steps"]
        if step["name"] == "contract"
        for reason, rows in step["dropped"].items()
    ]
    return sorted(groups, key=lambda group: -group.rows)


def _examples(paths: Sequence[Path], reason: str) -> list[str]:
    """The first rows that were rejected for this reason, as text."""
    found: list[str] = []
    for path in paths:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches():
                of_reason = batch.filter(pc.equal(batch.column("reason"), reason))
                rows = of_reason.slice(0, EXAMPLES - len(found)).drop_columns(["reason"])
                names = rows.schema.names
                for row in zip(*rows.columns, strict=True):
                    texts = (f"{name}: {printed(value, str)}" for name, value in zip(names, row, strict=True))
                    found.append(", ".join(texts))
                if len(found) == EXAMPLES:
                    return found
    return found


def _small(uri: str) -> str:
    return thumbnail(uri, _THUMBNAIL_PX, square=True)
