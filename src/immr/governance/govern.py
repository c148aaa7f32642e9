"""From a raw click log to a training set: the steps of governance, in order."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from immr.data.attributes import COLUMN as ATTRIBUTES
from immr.data.content_hashes import FileStamps
from immr.data.contract import IMPRESSIONS, ITEMS, JUDGEMENTS, QUERIES, TableContract
from immr.data.pictures.remote.downloads import Downloads
from immr.data.sources.shop import Shop
from immr.data.training_set import HELD_OUT, TrainingSet
from immr.data.validation.tables import AdmittedTables, admit
from immr.errors import RecipeError
from immr.governance import balance, image_checks, manifest, report
from immr.governance.embedder import Embedder
from immr.governance.governance_recipe import GovernanceRecipe
from immr.governance.graph import classes, edges
from immr.governance.labels import appearance
from immr.governance.splits import held_out, split
from immr.governance.step_counts import Ledger, TableStep
from immr.governance.workspace import Workspace, building
from immr.machine.wording import counted

_log = logging.getLogger(__name__)
_NOT_COUNTED = (
    "Errors that appearance cannot show are not counted: between items that look the same, in classes with "
    "fewer than about 16 photos, and most of those between look-alikes whose labels are wrong nearly half of the time"
)
_USER = pa.field("user_id", pa.string())
_SHA = pa.field("image_sha256", pa.string())
_CLASS = pa.field("class_id", pa.int64())
_UNSEEN = pa.field("unseen", pa.bool_())
_ITEMS = ITEMS.columns.append(_SHA).append(_CLASS).append(_UNSEEN)
QUERIES_SCHEMA = (
    QUERIES.columns.append(_SHA)
    .append(_CLASS)
    .append(pa.field("item_id", pa.string()))
    .append(pa.field("weight", pa.float64()))
)
_JUDGED = [*JUDGEMENTS.columns.names, "user_id", "image_sha256", "class_id"]
JUDGEMENTS_SCHEMA = JUDGEMENTS.columns.append(_USER).append(_SHA).append(_CLASS).append(_UNSEEN)


def govern(
    data: Shop | Path,
    out: Path,
    recipe: GovernanceRecipe,
    engine_url: str = "duckdb://",
    embedder: Embedder | None = None,
    downloads: Downloads | None = None,
    stamps: FileStamps | None = None,
) -> TrainingSet:
    """Turn the tables in `data` into a training set; the same data and recipe give the same manifest hash.

    Args:
        data: the shop, or the folder of its tables.
        out: the training set's folder, written atomically; an existing one is replaced.
        recipe: which steps, and how strict they are.
        engine_url: where tables are computed.
        downloads: fetches pictures behind http(s) URLs.
        embedder: embeds photos; needed if the recipe's `clean_labels` is on.
        stamps: of the files, which must not change until they have been read.

    Raises:
        DataError: the files have changed since `stamps`.
        RecipeError: `clean_labels` is on and there is no embedder.
        ContractError: the data break the contract, or nothing is left to learn from.
        SettingsError: no engine understands the URL.
    """
    if recipe.clean_labels and embedder is None:
        raise RecipeError("clean_labels compares photos: pass an embedder, or turn it off")
    with building(engine_url, out) as (workspace, folder):
        admission = admit(data, workspace.scratch)
        if stamps:
            stamps.check_unchanged()
        shutil.copytree(workspace.scratch / "rejected", folder / "rejected")
        _Run(workspace, recipe, admission, folder, embedder, downloads).go()
    training_set = TrainingSet(out)
    _log.info("training set %s in %s", training_set.hash[:12], out)
    return training_set


def item_columns(admitted: Path) -> pa.Schema:
    """The columns of a training set's items, with the declared attributes, if the valid items have any."""
    declared = pq.read_schema(admitted)
    position = declared.get_field_index(ATTRIBUTES)
    return _ITEMS if position < 0 else _ITEMS.append(declared.field(position))


def input_of(workspace: Workspace, table: Any, contract: TableContract) -> dict[str, Any]:
    """Rows and hash of a table with pictures, for the manifest."""
    # today's stock and additional pictures do not affect training; pictures are identified by their content
    columns = [name for name in contract.columns.names if name not in ("image", "stock", "images")]
    return manifest.of_rows(workspace.batches(table.select(*columns, "image_sha256"), contract.key))


class _Run:
    """One run of all steps, with the counts that the report shows."""

    def __init__(
        self,
        workspace: Workspace,
        recipe: GovernanceRecipe,
        admission: AdmittedTables,
        folder: Path,
        embedder: Embedder | None,
        downloads: Downloads | None,
    ) -> None:
        self._downloads = downloads
        self._embedder = embedder if recipe.clean_labels else None
        self._work = workspace
        self._recipe = recipe
        self._admission = admission
        self._folder = folder
        self._class_count = 0
        self._held_out: dict[str, Any] | None = None  # None: people judged
        self._wrong_share: float | None = None  # of labels that clicks agree on; None: not estimated
        self._ledger = Ledger(workspace)
        self._ledger.steps += [
            TableStep("contract", name, counts.rows_in, counts.valid, counts.rejected)
            for name, counts in admission.tables.items()
        ]

    def go(self) -> None:
        """All steps. Each passes on the rows that it keeps, and the ledger counts the others."""
        items, queries, judgements = self._pictured()
        inputs = self._inputs(items, queries, judgements)
        items = self._ledger.passed("images", "items", items, ["detail"], self._off("check_images"))
        queries = self._ledger.passed("images", "queries", queries, ["detail"], self._off("check_images"))
        judgements = self._judgeable(judgements, items)
        impressions = self._work.read(self._admission.path("impressions"))
        impressions = impressions.semi_join(items, "item_id").semi_join(queries, "query_id")

        item_classes = self._classes(items, impressions, queries)
        clicked = self._work.keep(edges.edges(impressions, self._recipe).join(item_classes, "item_id"))
        judged = self._work.keep(edges.verdicts(queries, edges.best_items(clicked), self._recipe))
        labelled = self._ledger.passed("edges", "queries", self._settled(judged), note=self._off("min_share"))
        items = items.join(item_classes, "item_id")
        labelled = self._work.keep(labelled.join(item_classes, "item_id"))
        unseen = split.unseen_classes(self._work, item_classes, self._recipe)
        labelled, judgements = self._split(labelled, judgements, item_classes, unseen)
        queries = self._balanced(self._cleaned(labelled, clicked, item_classes))
        self._write_set(inputs, self._marked(items, unseen), queries, self._marked(judgements, unseen))

    def _write_set(self, inputs: dict[str, Any], items: Any, queries: Any, judgements: Any) -> None:
        """Write the tables, the manifest and the report."""
        outputs = {
            "items": self._write("items", items, item_columns(self._admission.path("items")), "item_id"),
            "queries": self._write("queries", queries, QUERIES_SCHEMA, "query_id"),
            "judgements": self._write("judgements", judgements, JUDGEMENTS_SCHEMA, "query_id"),
        }
        written = manifest.write(
            self._folder,
            self._recipe,
            inputs,
            self._ledger.steps,
            outputs,
            self._class_count,
            wrong_judgements=self._wrong_share if self._held_out else None,
            held_out=self._held_out,
        )
        report.write(self._folder, written, self._ledger.examples)

    def _pictured(self) -> tuple[Any, Any, Any]:
        """items, queries and judgements, each with image_sha256, reason and detail."""
        tables = {contract.name: self._table(contract) for contract in (ITEMS, QUERIES, JUDGEMENTS)}
        seen = image_checks.inspected(self._work, tables, self._folder, self._recipe, self._downloads)
        return seen["items"], seen["queries"], seen["judgements"]

    def _table(self, contract: TableContract) -> Any:
        path = self._admission.path(contract.name)
        if not path.exists():
            pq.write_table(contract.columns.empty_table(), path)
        return self._work.read(path)

    def _inputs(self, items: Any, queries: Any, judgements: Any) -> dict[str, Any]:
        impressions = self._work.read(self._admission.path("impressions"))
        return {
            "items": input_of(self._work, items, ITEMS),
            "queries": input_of(self._work, queries, QUERIES),
            "judgements": input_of(self._work, judgements, JUDGEMENTS),
            "impressions": manifest.of_rows(self._work.batches(impressions, IMPRESSIONS.key)),
        }

    def _off(self, *switches: str) -> str:
        """The report's note on a step whose switches are all off."""
        return "" if any(getattr(self._recipe, name) for name in switches) else "switched off"

    def _settled(self, judged: Any) -> Any:
        """Queries whose clicks disagree stay if appearance can still decide."""
        import ibis

        disagree = judged.reason == edges.DISAGREE
        judged = judged.mutate(settled=~disagree)
        if self._embedder is None:
            return judged
        return self._work.keep(judged.mutate(reason=ibis.ifelse(disagree, "", judged.reason)))

    def _cleaned(self, labelled: Any, clicked: Any, item_classes: Any) -> Any:
        """The labels that appearance confirms or corrects; all of them if the step is off."""
        embedder = self._embedder
        if embedder is None:
            self._ledger.unchanged("appearance", "queries", labelled, self._off("clean_labels"))
            return labelled
        labelled = self._work.keep(labelled)
        judged, wrong_share = appearance.judged(
            self._work, labelled, clicked, item_classes, embedder, self._recipe, self._work.scratch
        )
        self._wrong_share = wrong_share
        judged = self._work.keep(judged)
        counts = self._work.fetch(judged.group_by("moved").aggregate(rows=judged.count()), ["moved"])
        moved = "; ".join(f"{row['rows']} {row['moved']}" for row in counts if row["moved"])
        note = (
            f"an estimated {wrong_share:.1%} of the labels that clicks agree on are wrong, "
            f"by {embedder.name}; {moved or 'none moved'}. {_NOT_COUNTED}"
        )
        kept = self._ledger.passed("appearance", "queries", judged, note=note)
        self._ledger.show("appearance", judged, "moved")
        return kept

    def _balanced(self, queries: Any) -> Any:
        """The photos with their weights; those of before if the step is off."""
        if not self._recipe.balance_classes:
            self._ledger.unchanged("balance", "queries", queries, self._off("balance_classes"))
            return queries
        weighed = self._work.keep(balance.balanced(self._work, queries, self._recipe))
        return self._ledger.passed("balance", "queries", weighed, note=self._spread(weighed))

    def _spread(self, weighed: Any) -> str:
        """The smallest and largest weight after balancing."""
        ends = weighed.aggregate(low=weighed.weight.min(), high=weighed.weight.max())
        (row,) = self._work.fetch(ends, ["low"])
        return f"a photo counts {row['low']:.2f} to {row['high']:.2f} times"

    def _judgeable(self, judgements: Any, items: Any) -> Any:
        import ibis

        known = items.select(known_id="item_id")
        joined = judgements.left_join(known, judgements.item_id == known.known_id)
        lost = (joined.reason == "") & joined.known_id.isnull()
        reason = ibis.ifelse(lost, "its item was rejected", joined.reason)
        judged = self._work.keep(joined.mutate(reason=reason).drop("known_id"))
        return self._ledger.passed("images", "judgements", judged, ["detail"], self._off("check_images"))

    def _classes(self, items: Any, impressions: Any, queries: Any) -> Any:
        numbered = self._work.keep(classes.classes(self._work, items, impressions, queries, self._recipe))
        self._class_count = self._work.rows(numbered.select("class_id").distinct())
        note = self._off("group_items") or counted(self._class_count, "class")
        self._ledger.unchanged("classes", "items", numbered, note)
        return numbered

    def _marked(self, table: Any, unseen: Any) -> Any:
        """The table with `unseen`: whether its class is kept out of training."""
        strange = unseen.select(unseen_id="class_id")
        joined = table.left_join(strange, table.class_id == strange.unseen_id)
        return joined.mutate(unseen=joined.unseen_id.notnull()).drop("unseen_id")

    def _split(self, labelled: Any, judgements: Any, item_classes: Any, unseen: Any) -> tuple[Any, Any]:
        """The photos to train on, and those to evaluate with: judged by people, or else held out."""
        import ibis

        if self._work.rows(judgements):
            judged = judgements.join(item_classes, "item_id").mutate(user_id=ibis.null("string"))
            sides, note = None, "judgements from the data"
        else:
            judged, sides, note = self._hold_out(labelled, unseen)
        judged = self._work.keep(judged.select(*_JUDGED))
        verdicts = self._work.keep(split.verdicts(labelled, judged, sides, unseen))
        note = f"{self._work.rows(judged)} {note}"
        return self._ledger.passed("split", "queries", verdicts, note=note), judged

    def _hold_out(self, labelled: Any, unseen: Any) -> tuple[Any, Any, str]:
        """The held-out photos, the side of every photo (query_id, side), and the report's note."""
        found = self._sides(labelled)
        self._held_out = {"days_after_training": found.days_after}
        pq.write_table(found.table, path := self._work.scratch / "sides.parquet")
        sides = self._work.read(path)
        held = labelled.semi_join(sides.filter(sides.side == HELD_OUT), "query_id")
        settled = labelled.filter(labelled.settled)
        of_unseen = settled.semi_join(unseen, "class_id").anti_join(held, "query_id")
        note = (
            "judgements held out before labels are cleaned. Clicks are their labels, so reported recall counts wrong "
            f"clicks against the model. They were taken {found.when}"
        )
        if found.days_after and self._recipe.unseen_class_share:
            note += "; photos of unseen classes are from all days"
        if not self._embedder:
            note += ". Without an embedder near copies may be on both sides, and recall may be far too high"
        return held.select(*_JUDGED).union(of_unseen.select(*_JUDGED)), sides, note

    def _sides(self, labelled: Any) -> held_out.Sides:
        columns = ["query_id", "user_id", "ts", "image", "image_sha256", "class_id", "settled"]
        photos = self._work.table(labelled.select(*columns), ["query_id"])
        features_NF = appearance.embedded(photos, self._embedder)[0] if self._embedder else None
        return held_out.sides(photos, features_NF, self._recipe)

    def _write(self, name: str, table: Any, schema: pa.Schema, key: str) -> dict[str, Any]:
        path = self._folder / f"{name}.parquet"
        self._work.write(table, path, schema, [key])
        return manifest.of_file(path)
