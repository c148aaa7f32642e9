"""A training set of a catalogue without clicks: each item is a class of its own, and there are no photos."""

from __future__ import annotations

import logging
import shutil
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from immr.data.admission import admit_table
from immr.data.contract import ITEMS
from immr.data.pictures.downloads import Downloads
from immr.data.sources.shop import Shop
from immr.data.training_set import TrainingSet
from immr.governance import images, manifest, report
from immr.governance.engines.engine import connect
from immr.governance.govern import JUDGEMENTS_SCHEMA, QUERIES_SCHEMA, item_columns
from immr.governance.governance_recipe import GovernanceRecipe
from immr.governance.steps import Ledger, Step
from immr.governance.workspace import Workspace
from immr.storage.atomic import replace_folder_atomically

_log = logging.getLogger(__name__)


def catalogue_set(
    shop: Shop,
    out: Path,
    recipe: GovernanceRecipe,
    engine_url: str = "duckdb://",
    downloads: Downloads | None = None,
) -> TrainingSet:
    """Check a catalogue and its pictures; the same items give the same manifest hash.

    Args:
        shop: whose items are read; it needs no other table.
        out: the training set's folder, written atomically; an existing one is replaced.
        recipe: how pictures are checked.
        engine_url: where tables are computed.
        downloads: fetches pictures behind http(s) URLs.

    Raises:
        ContractError: the items break the contract, or none has a usable picture.
        SettingsError: no engine understands the URL.
    """
    table = shop.table(ITEMS)
    assert table is not None, "items are not optional"
    with (
        closing(connect(engine_url)) as engine,
        TemporaryDirectory(prefix="immr-catalogue-", dir=engine.scratch) as scratch,
        replace_folder_atomically(out) as folder,
    ):
        counts = admit_table(table, Path(scratch))
        shutil.copytree(Path(scratch) / "rejected", folder / "rejected")
        workspace = Workspace(engine, Path(scratch))
        ledger = Ledger(workspace)
        ledger.steps.append(Step("contract", "items", counts.rows_in, counts.valid, counts.rejected))
        items = _pictured(workspace, ledger, Path(scratch), folder, recipe, downloads)
        _write(workspace, ledger, items, item_columns(Path(scratch) / "items.parquet"), folder, recipe)
    training_set = TrainingSet(out)
    _log.info("catalogue %s in %s", training_set.hash[:12], out)
    return training_set


def _pictured(
    workspace: Workspace,
    ledger: Ledger,
    scratch: Path,
    folder: Path,
    recipe: GovernanceRecipe,
    downloads: Downloads | None,
) -> Any:
    """The items whose picture can be read, with its hash."""
    items = workspace.read(scratch / "items.parquet")
    uris = (
        row["image"]
        for batch in workspace.batches(items.select("image").distinct(), ["image"])
        for row in batch.to_pylist()
    )
    images.inspect_all(uris, scratch / "images.parquet", recipe, downloads)
    seen = workspace.keep(items.join(workspace.read(scratch / "images.parquet"), "image"))
    images.write_refused(workspace, {"items": seen}, folder)
    return ledger.passed("images", "items", seen.mutate(image=seen.place).drop("place"), ["detail"])


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
    outputs = {name: _hash(folder / f"{name}.parquet") for name in ("items", "queries", "judgements")}
    learned = [name for name in ITEMS.columns.names if name not in ("image", "stock")]
    rows = workspace.batches(numbered.select(*learned, "image_sha256"), ITEMS.key)
    inputs = {"items": manifest.of_rows(rows)}
    classes = workspace.rows(numbered)
    written = manifest.write(folder, recipe, inputs, ledger.steps, outputs, classes)
    report.write(folder, written, ledger.examples)


def _hash(path: Path) -> dict[str, Any]:
    with pq.ParquetFile(path) as file:
        return manifest.of_rows(file.iter_batches())
