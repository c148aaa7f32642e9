import gc
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from immr.data.pictures import additional_pictures
from immr.governance.governance_recipe import GovernanceRecipe
from immr.governance.image_checks import SCHEMA, inspect_all, inspected
from immr.governance.workspace import Workspace
from tests.support.odd_pictures import usable_and_not

RECIPE = GovernanceRecipe(min_image_side_px=32)


@pytest.fixture
def pictures(tmp_path: Path) -> dict[str, str]:
    return usable_and_not(tmp_path)


def test_a_recipe_without_the_check_refuses_no_image(pictures: dict[str, str], tmp_path: Path) -> None:
    for check, reasons in (
        (True, ["image has a side below 32 px", "image cannot be read"]),
        (False, ["", ""]),
    ):
        recipe = GovernanceRecipe(check_images=check)
        inspect_all([pictures["small"], pictures["missing"]], tmp_path / "images.parquet", recipe)
        assert pq.read_table(tmp_path / "images.parquet")["reason"].to_pylist() == reasons


def test_the_table_keeps_the_given_order(pictures: dict[str, str], tmp_path: Path) -> None:
    uris = [pictures[name] for name in ("small", "good", "cut")]
    inspect_all(uris, tmp_path / "images.parquet", RECIPE)
    table = pq.read_table(tmp_path / "images.parquet")
    assert table.schema.equals(SCHEMA)
    assert table["image"].to_pylist() == uris


def test_refused_pictures_of_each_table_are_listed_in_order(
    pictures: dict[str, str], duckdb_workspace: Workspace, tmp_path: Path
) -> None:
    names = {"items": ("small", "good", "cut"), "queries": ("good",), "judgements": ("missing", "cut")}
    tables = {}
    for table, images in names.items():
        key = "item_id" if table == "items" else "query_id"
        rows = [{key: f"{number}", "image": pictures[name]} for number, name in enumerate(images)]
        pq.write_table(pa.Table.from_pylist(rows[::-1]), tmp_path / f"{table}.parquet")
        tables[table] = duckdb_workspace.read(tmp_path / f"{table}.parquet")
    (tmp_path / "rejected").mkdir()
    inspected(duckdb_workspace, tables, tmp_path, RECIPE)
    refused = pq.read_table(tmp_path / "rejected" / "images.parquet").to_pylist()
    assert [(row["table"], row["id"]) for row in refused] == [
        ("items", "0"),
        ("items", "2"),
        ("judgements", "0"),
        ("judgements", "1"),
    ]
    assert refused[0] == {
        "table": "items",
        "id": "0",
        "image": pictures["small"],
        "reason": "image has a side below 32 px",
        "detail": "16×16 px",
    }


def test_pictures_that_are_left_out_are_counted_but_not_kept(
    pictures: dict[str, str],
    duckdb_workspace: Workspace,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    items = 12_000
    ids = [f"{number:05}" for number in range(items)]
    gone = [f"{tmp_path}/{'gone' * 20}/{number}.png" for number in ids]
    gone = [additional_pictures.packed([each, f"{tmp_path}/of-all-items.png"]) for each in gone]
    columns = {"item_id": ids, "image": [pictures["good"]] * items, "images": gone}
    pq.write_table(pa.table(columns), tmp_path / "items.parquet")
    (tmp_path / "rejected").mkdir()
    few = tmp_path / "few"
    (few / "rejected").mkdir(parents=True)
    pq.write_table(pa.table(columns).slice(0, 1), few / "items.parquet")
    inspected(duckdb_workspace, {"items": duckdb_workspace.read(few / "items.parquet")}, few, RECIPE)
    del gone, columns
    gc.collect()
    tracemalloc.start()  # after what the first inspection imports and keeps
    before, _ = tracemalloc.get_traced_memory()
    seen = inspected(
        duckdb_workspace, {"items": duckdb_workspace.read(tmp_path / "items.parquet")}, tmp_path, RECIPE
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "left out 12,001 additional pictures of items, such as " in caplog.text
    assert duckdb_workspace.rows(seen["items"].filter(seen["items"].images.isnull())) == items
    assert peak - before < 12_000_000  # 9.2 MB; with an inspection of each picture 15.5 MB
