"""The training set, which governance writes and training, evaluation and indexing read.

A folder with
    items.parquet       the contract's items with the declared attributes (as JSON), plus image_sha256 and class_id
                        (one class = one thing that can be bought)
    queries.parquet     query_id, user_id, ts, image, image_sha256, class_id, weight: photos to train on
    judgements.parquet  query_id, image, image_sha256, item_id, class_id: held-out photos with their correct item
    manifest.json       content hashes, parameters, row counts of each step
    report.html         the same, with pictures
    rejected/           rows that break the contract, with the reason
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import compress
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from immr.data.attributes import CLASS, item_of
from immr.data.contract import CONTRACT
from immr.data.pictures.relocation import item_kept_here, kept_here
from immr.errors import ContractError
from immr.types import Item

FILES = frozenset(
    {"items.parquet", "queries.parquet", "judgements.parquet", "manifest.json", "report.html", "rejected"}
)

HELD_OUT = "held out for judgement"
"""The reason under which governance takes photos out of training to evaluate versions."""
_REASONS = 4  # in a sentence
_SHA = "image_sha256"
_BATCH = 10_000  # rows
_PICTURES = "../../../pictures"  # from IMMR_HOME/work/training-sets/KEY, where training sets are kept


@dataclass(frozen=True)
class LabelledPhoto:
    """A photo and the class it shows."""

    query_id: str
    image: str
    class_id: int
    item_id: str | None = None  # known for judgements
    weight: float = 1.0
    user_id: str | None = None  # the shopper who took it, if known


@dataclass(frozen=True)
class TableUse:
    """What became of a table's rows: rows = usable + held_out + the sum of lost."""

    table: str
    rows: int
    usable: int
    held_out: int  # photos that evaluate versions
    lost: Mapping[str, int]  # reason → rows, most rows first

    @property
    def sentence(self) -> str:
        """For example `254 of 486 queries usable, 15 held out; lost: 206 no click on a valid item`."""
        held_out = f", {self.held_out:,} held out" if self.held_out else ""
        reasons = [f"{rows:,} {reason}" for reason, rows in list(self.lost.items())[:_REASONS]]
        if others := sum(list(self.lost.values())[_REASONS:]):
            reasons.append(f"{others:,} for other reasons")
        lost = f"; lost: {', '.join(reasons)}" if reasons else ""
        return f"{self.usable:,} of {self.rows:,} {self.table} usable{held_out}{lost}"


@dataclass(frozen=True)
class TrainingSet:
    """A finished training set on disk."""

    folder: Path

    def __post_init__(self) -> None:
        if not (self.folder / "manifest.json").is_file():
            raise ContractError(
                f"{self.folder} is not a training set (it has no manifest.json): run `immr govern` first"
            )

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """The parsed `manifest.json`."""
        manifest: dict[str, Any] = json.loads((self.folder / "manifest.json").read_text())
        return manifest

    @property
    def hash(self) -> str:
        """Same input and recipe, same hash."""
        return str(self.manifest["hash"])

    def sizes(self) -> dict[str, int]:
        """Numbers of photos, held-out photos, items and classes; reads only one column."""
        tables = {"photos": "queries", "held_out_photos": "judgements", "items": "items"}
        rows = {
            name: pq.read_metadata(self.folder / f"{table}.parquet").num_rows
            for name, table in tables.items()
        }
        return {**rows, "classes": self.class_count}

    def use(self) -> list[TableUse]:
        """What became of the rows of each table that was read, in the order of the data contract."""
        steps = self.manifest.get("steps", [])
        return [
            _use_of([step for step in steps if step["table"] == contract.name], contract.name)
            for contract in CONTRACT
            if any(step["table"] == contract.name and step["rows_in"] for step in steps)
        ]

    def facts(self) -> dict[str, str | int]:
        """Metadata of a pipeline's artifact: folder, hash and sizes."""
        return {"folder": str(self.folder), "hash": self.hash, **self.sizes()}

    @cached_property
    def items(self) -> list[Item]:
        """All documents, in item_id order; their class is an attribute."""
        there = pq.read_schema(self.folder / "items.parquet").names
        may_lack = ("stock", "attributes", "images")
        columns = [name for name in Item.__dataclass_fields__ if name in there or name not in may_lack]
        pictures_dir = self._pictures_dir
        items = (item_kept_here(item_of(row), pictures_dir) for row in self._rows("items", columns))
        return [
            replace(item, attributes={**item.attributes, CLASS: str(class_id)})
            for item, class_id in zip(items, self.item_classes, strict=True)
        ]

    @cached_property
    def item_ids(self) -> frozenset[str]:
        """The ids of all documents."""
        return frozenset(self._column("items", "item_id"))

    @cached_property
    def item_classes(self) -> list[int]:
        """class_id of each of `items`."""
        return self._column("items", "class_id")

    @cached_property
    def categories(self) -> dict[str, str]:
        """The category of each document by item_id, in the order of `items`; makes no `Item`."""
        return dict(zip(self._column("items", "item_id"), self._column("items", "category"), strict=True))

    def classes_of(self, item_ids: Sequence[str]) -> dict[str, str]:
        """The class of each of these items that is here, as an attribute has it; reads no other rows."""
        table = pq.read_table(
            self.folder / "items.parquet",
            columns=["item_id", "class_id"],
            filters=[("item_id", "in", list(item_ids))],
        )
        return {row["item_id"]: str(row["class_id"]) for row in table.to_pylist()}

    @cached_property
    def class_count(self) -> int:
        """Number of classes; ids are 0 … class_count−1."""
        return max(self.item_classes) + 1

    @cached_property
    def unseen_classes(self) -> frozenset[int]:
        """Classes without training photos, held out to evaluate unseen items."""
        return frozenset(compress(self.item_classes, self._column("items", "unseen")))

    @cached_property
    def queries(self) -> list[LabelledPhoto]:
        """Photos to train on, in query_id order."""
        return self._photos("queries", ["query_id", "image", "class_id", "weight"])

    @cached_property
    def judgements(self) -> list[LabelledPhoto]:
        """Photos to evaluate on, in query_id order; never trained on."""
        there = pq.read_schema(self.folder / "judgements.parquet").names
        columns = ["query_id", "image", "class_id", "item_id", "user_id"]
        return self._photos("judgements", [name for name in columns if name in there])

    def image_hashes(self) -> dict[str, str]:
        """URI → SHA-256 of the content, of photos to train on and of the main pictures of items.

        Governance recorded them when it read the pictures. Those of a training set from an older release, and
        pictures that could not be read, are missing.
        """
        found: dict[str, str] = {}
        pictures_dir = self._pictures_dir
        for table in ("queries", "items"):
            file = self.folder / f"{table}.parquet"  # a catalogue without clicks may have no photos
            if file.is_file() and _SHA in pq.read_schema(file).names:
                pairs = zip(self._column(table, "image"), self._column(table, _SHA), strict=True)
                found |= {kept_here(image, pictures_dir): content for image, content in pairs if content}
        return found

    def _column(self, table: str, name: str) -> list[Any]:
        values: list[Any] = pq.read_table(self.folder / f"{table}.parquet", columns=[name])[name].to_pylist()
        return values

    def _rows(self, table: str, columns: list[str]) -> Iterator[dict[str, Any]]:
        with pq.ParquetFile(self.folder / f"{table}.parquet") as file:
            for batch in file.iter_batches(_BATCH, columns=columns):
                yield from batch.to_pylist()

    @property
    def _pictures_dir(self) -> Path:
        """Fetched pictures of the home that this training set is in, which may have been moved since."""
        return Path(os.path.normpath(self.folder.absolute() / _PICTURES))

    def _photos(self, table: str, columns: list[str]) -> list[LabelledPhoto]:
        pictures_dir = self._pictures_dir
        rows = self._rows(table, columns)
        return [LabelledPhoto(**row | {"image": kept_here(row["image"], pictures_dir)}) for row in rows]


def _use_of(steps: Sequence[Mapping[str, Any]], table: str) -> TableUse:
    lost = Counter[str]()
    for step in steps:
        lost.update(step["dropped"])
    held_out = lost.pop(HELD_OUT, 0)
    return TableUse(table, steps[0]["rows_in"], steps[-1]["rows_out"], held_out, dict(lost.most_common()))
