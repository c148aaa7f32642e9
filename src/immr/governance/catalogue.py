"""A training set from a catalogue without clicks: each item is its own class, and there are no photos."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from immr.data.content_hashes import FileStamps
from immr.data.contract import ITEMS
from immr.data.pictures.remote.downloads import Downloads
from immr.data.sources.shop import Shop
from immr.data.training_set import TrainingSet
from immr.data.validation.tables import admit_table
from immr.governance import image_checks, manifest, report
from immr.governance.govern import JUDGEMENTS_SCHEMA, QUERIES_SCHEMA, input_of, item_columns
from immr.governance.governance_recipe import GovernanceRecipe
from immr.governance.step_counts import Ledger, TableStep
from immr.governance.workspace import Workspace, building

_log = logging.getLogger(__name__)


def catalogue_set(
    shop: Shop,
    out: Path,
    recipe: GovernanceRecipe,
    engine_url: str = "duckdb://",
    downloads: Downloads | None = None,
    stamps: FileStamps | None = None,
) -> TrainingSet:
    """Check a catalogue and its pictures; the same items give the same manifest hash.

    Args:
        shop: whose items are read; it needs no other table.
        out: the training set's folder, written atomically; an existing one is replaced.
        recipe: how pictures are checked.
        engine_url: where tables are computed.
        downloads: fetches pictures behind http(s) URLs.
        stamps: of the files, which must not change until they have been read.

    Raises:
        DataError: the files have changed since `stamps`.
        ContractError: the items break the contract, or none has a usable picture.
        SettingsError: no engine understands the URL.
    """
    table = shop.table(ITEMS)
    assert table is not None, "items are not optional"
    with building(engine_url, out) as (workspace, folder):
        counts = admit_table(table, workspace.scratch)
        if stamps:
            stamps.check_unchanged()
        shutil.copytree(workspace.scratch / "rejected", folder / "rejected")
        ledger = Ledger(workspace)
        ledger.steps.append(TableStep("contract", "items", counts.rows_in, counts.valid, counts.rejected))
        admitted = workspace.scratch / "items.parquet"
        tables = {"items": workspace.read(admitted)}
        seen = image_checks.inspected(workspace, tables, folder, recipe, downloads)["items"]
        items = ledger.passed("images", "items", seen, ["detail"])
        _write(workspace, ledger, items, item_columns(admitted), folder, recipe)
    training_set = TrainingSet(out)
    _log.info("catalogue %s in %s", training_set.hash[:12], out)
    return training_set


def _write(
    workspace: Workspace,
    ledger: Ledger,
    items: Any,
    columns: pa.Schema,
    folder: Path,
    recipe: GovernanceRecipe,
) -> None:
    import ibis

    number = ibis.row_number().over(ibis.window(order_by=items.item_id))
    numbered = workspace.keep(items.mutate(class_id=number.cast("int64"), unseen=ibis.literal(False)))
    workspace.write(numbered, folder / "items.parquet", columns, ["item_id"])
    for name, schema in (("queries", QUERIES_SCHEMA), ("judgements", JUDGEMENTS_SCHEMA)):
        pq.write_table(schema.empty_table(), folder / f"{name}.parquet")
    outputs = {
        name: manifest.of_file(folder / f"{name}.parquet") for name in ("items", "queries", "judgements")
    }
    inputs = {"items": input_of(workspace, numbered, ITEMS)}
    classes = workspace.rows(numbered)
    written = manifest.write(folder, recipe, inputs, ledger.steps, outputs, classes)
    report.write(folder, written, ledger.examples)
