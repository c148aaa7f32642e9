"""The report for people: one HTML file with pictures, to see what governance kept, grouped and dropped."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import ImageOps

from immr.data import images
from immr.errors import DataError
from immr.files import write_whole

EXAMPLES = 24
_CLASSES_SHOWN = 6
_PHOTOS_PER_CLASS = 5
_THUMBNAIL_PX = 84


@dataclass(frozen=True)
class _Picture:
    """A thumbnail as a data URI (empty where there is none) and what stands below it."""

    source: str
    caption: str


@dataclass(frozen=True)
class _ClassCard:
    """One class: its items' pictures and some of its photos."""

    class_id: int
    photos_in_all: int
    items_in_all: int
    items: Sequence[_Picture]
    photos: Sequence[_Picture]


def write(
    folder: Path,
    manifest: dict[str, Any],
    doubtful: Sequence[dict[str, Any]],
    seen: Sequence[dict[str, Any]],
) -> None:
    """Write `report.html` beside the manifest.

    Args:
        folder: the training set as written so far.
        manifest: its content.
        doubtful: queries that were dropped though something was clicked: image, item_id, reason, share.
        seen: queries whose looks contradict their clicks: image, why, clicked_item, best_item, given_score,
            best_score.
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
        steps=[{**step, "share": step["rows_out"] / max(step["rows_in"], 1)} for step in manifest["steps"]],
        sizes=sizes[order].tolist(),
        median=float(np.median(sizes)),
        without_photo=int((sizes == 0).sum()),
        largest=_cards(folder, largest, sizes),
        smallest=_cards(folder, smallest, sizes),
        doubtful=[_doubtful_picture(row) for row in doubtful[:EXAMPLES]],
        seen=_by_reason(seen),
        refused=_refused(folder),
    )
    write_whole(folder / "report.html", page)


def _class_sizes(folder: Path, classes: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """(C,) training photos per class."""
    class_ids = pq.read_table(folder / "queries.parquet", columns=["class_id"])["class_id"]
    return np.bincount(class_ids.to_numpy(), minlength=classes).astype(np.int64)


def _cards(folder: Path, class_ids: Sequence[int] | np.ndarray[Any, Any], sizes: Any) -> list[_ClassCard]:
    wanted = [int(class_id) for class_id in class_ids]
    filters = [("class_id", "in", wanted)] if wanted else None
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
        [_Picture(_thumbnail(row["image"]), row["title"]) for row in own_items[:2]],
        [_Picture(_thumbnail(row["image"]), f"weight {row['weight']:.2f}") for row in own_photos],
    )


def _doubtful_picture(row: dict[str, Any]) -> _Picture:
    return _Picture(_thumbnail(row["image"]), f"{row['item_id']}: {row['share']:.0%} of the evidence")


def _by_reason(rows: Sequence[dict[str, Any]]) -> dict[str, list[_Picture]]:
    """Why → photos that were dropped or moved for it."""
    found: dict[str, list[_Picture]] = {}
    for row in rows:
        given = "not known" if row["given_score"] != row["given_score"] else f"{row['given_score']:.2f}"
        caption = f"clicked {row['clicked_item']} {given}, looks {row['best_item']} {row['best_score']:.2f}"
        found.setdefault(row["why"], []).append(_Picture(_thumbnail(row["image"]), caption))
    return found


def _refused(folder: Path) -> list[dict[str, Any]]:
    """The first images that were refused, and why."""
    path = folder / "rejected" / "images.parquet"
    if not path.exists():
        return []
    table = pq.read_table(path)
    return list(table.slice(0, EXAMPLES).select(["table", "id", "reason"]).to_pylist())


def _thumbnail(uri: str) -> str:
    """A small JPEG as a data URI; empty for an image that cannot be read."""
    try:
        picture = images.decode(images.read(uri), min_side_px=_THUMBNAIL_PX)
    except DataError:
        return ""
    small, content = ImageOps.fit(picture, (_THUMBNAIL_PX, _THUMBNAIL_PX)), io.BytesIO()
    small.save(content, "JPEG", quality=72)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()
