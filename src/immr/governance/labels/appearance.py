"""The step that compares labels with appearance: tables in, tables out. See `cleaning`. (ours)"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from immr.governance.embedder import Embedder
from immr.governance.governance_recipe import GovernanceRecipe
from immr.governance.labels import cleaning
from immr.governance.splits.sessions import sessions
from immr.governance.workspace import Workspace
from immr.types import FloatArray

MOVED_WEIGHT = 0.75  # as sure as one plain click
SCHEMA = pa.schema(
    {
        "query_id": pa.string(),
        "seen_class": pa.int64(),
        "seen_item": pa.string(),
        "reason": pa.string(),
        "moved": pa.string(),
        "given_score": pa.float64(),
        "best_score": pa.float64(),
        "best_item": pa.string(),
    }
)


@dataclass(frozen=True)
class _Evidence:
    """The tables as columns, rows in query_id order."""

    rows: pa.Table  # query_id, image, image_sha256, item_id, class_id, weight, settled
    rivals: pa.Table  # query_id, item_id, class_id, weight: all that was clicked, strongest first
    item_of_class: dict[int, str]

    @property
    def class_count(self) -> int:
        return len(self.item_of_class)

    @cached_property
    def clicks(self) -> list[tuple[int, int]]:
        """(row, class) of each of `rivals`."""
        row_of = {query_id: row for row, query_id in enumerate(self.rows["query_id"].to_pylist())}
        rows = (row_of[query_id] for query_id in self.rivals["query_id"].to_pylist())
        return list(zip(rows, self.rivals["class_id"].to_pylist(), strict=True))


def judged(
    workspace: Workspace,
    labelled: Any,
    clicked: Any,
    item_classes: Any,
    embedder: Embedder,
    recipe: GovernanceRecipe,
    scratch: Path,
) -> tuple[Any, float]:
    """`labelled` with corrected class_id, item_id and weight, and `reason`, `moved` and probabilities.

    Also returns the estimated share of wrong labels among those whose clicks agree.

    Args:
        workspace: where the tables live.
        labelled: queries with query_id, user_id, ts, image, image_sha256, item_id, class_id, weight and
            `settled`: whether their clicks agree.
        clicked: (query_id, item_id, weight, class_id) of all clicks.
        item_classes: (item_id, class_id).
        embedder: embeds the photos.
        recipe: the thresholds.
        scratch: a folder for the step's own table.
    """
    import ibis

    evidence = _evidence(workspace, labelled, clicked, item_classes)
    path = scratch / "appearance.parquet"
    found = _verdicts(evidence, embedder, recipe)
    pq.write_table(_table(evidence, found), path)
    joined = labelled.join(workspace.read(path), "query_id")
    moved = joined.moved != ""
    table = joined.mutate(
        class_id=ibis.ifelse(moved, joined.seen_class, joined.class_id),
        clicked_item=joined.item_id,
        item_id=ibis.ifelse(moved, joined.seen_item, joined.item_id),
        weight=ibis.ifelse(moved, MOVED_WEIGHT, joined.weight),
    ).drop("seen_class", "seen_item")
    return table, found.wrong_share


def _evidence(workspace: Workspace, labelled: Any, clicked: Any, item_classes: Any) -> _Evidence:
    import ibis

    columns = [
        "query_id",
        "user_id",
        "ts",
        "image",
        "image_sha256",
        "item_id",
        "class_id",
        "weight",
        "settled",
    ]
    rivals = clicked.semi_join(labelled, "query_id").select("query_id", "item_id", "class_id", "weight")
    classes = workspace.fetch(
        item_classes.group_by("class_id").aggregate(item_id=item_classes.item_id.min()), ["class_id"]
    )
    return _Evidence(
        workspace.table(labelled.select(*columns), ["query_id"]),
        workspace.table(rivals, ["query_id", ibis.desc("weight"), "item_id"]),
        {row["class_id"]: row["item_id"] for row in classes},
    )


def _verdicts(evidence: _Evidence, embedder: Embedder, recipe: GovernanceRecipe) -> cleaning.Verdicts:
    rows = evidence.rows
    features_NF, hashes = embedded(rows, embedder)
    clicks, number = np.unique(
        np.array(evidence.clicks, np.int64).reshape(-1, 2), axis=0, return_inverse=True
    )  # items of one class count together
    labels = cleaning.Labels(
        given_N=rows["class_id"].to_numpy(),
        weight_N=rows["weight"].to_numpy().astype(np.float32),
        settled_N=np.asarray(rows["settled"]),
        clicks=clicks,
        evidence_R=np.bincount(number.reshape(-1), evidence.rivals["weight"].to_numpy()).astype(np.float32),
        class_count=evidence.class_count,
        session_N=sessions(rows["user_id"], rows["ts"]),
    )
    return cleaning.clean(features_NF, hashes, labels, recipe)


def embedded(photos: pa.Table, embedder: Embedder) -> tuple[FloatArray, list[str]]:
    """(N, F) embeddings of the pictures, and their content hashes."""
    hashes = photos["image_sha256"].to_pylist()
    uris = dict(zip(hashes, photos["image"].to_pylist(), strict=True))
    uris.pop("", None)
    return embedder.embed(uris, hashes), hashes


def _table(evidence: _Evidence, found: cleaning.Verdicts) -> pa.Table:
    """The verdicts as a table of SCHEMA. A class is named by its most clicked item, else by its first."""
    clicked: dict[tuple[int, int], str] = {}
    for click, item_id in zip(evidence.clicks, evidence.rivals["item_id"].to_pylist(), strict=True):
        clicked.setdefault(click, item_id)

    def items(class_ids: list[int]) -> list[str]:
        return [
            clicked.get((row, class_id), evidence.item_of_class.get(class_id, ""))
            for row, class_id in enumerate(class_ids)
        ]

    moves = (cleaning.MOVED_TO_CLICKED, cleaning.MOVED)
    columns = {
        "query_id": evidence.rows["query_id"],
        "seen_class": found.class_N,
        "seen_item": items(found.class_N.tolist()),
        "reason": ["" if why in moves else why for why in found.reason],
        "moved": [why if why in moves else "" for why in found.reason],
        "given_score": found.given_N.astype(np.float64),
        "best_score": found.best_N.astype(np.float64),
        "best_item": items(found.likeliest_N.tolist()),
    }
    return pa.table(columns, schema=SCHEMA)
