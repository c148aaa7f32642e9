"""The same rows give the same training set, wherever and in whichever format they are."""

from __future__ import annotations

import functools
import http.server
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.fs as fs
import pyarrow.parquet as pq
import pytest

from immr.data.mapping.shop_map import PictureRules
from immr.data.pictures.remote.downloads import Downloads
from immr.data.sources.shop import Shop
from immr.data.training_set import TrainingSet
from immr.datasets import synthetic
from immr.datasets.simulation import simulate
from immr.datasets.simulation_recipe import SimulationRecipe
from immr.errors import ContractError
from immr.governance.govern import govern
from immr.governance.governance_recipe import GovernanceRecipe
from tests.support import postgres_server, s3_process
from tests.support.stand_in_server import served

CLICKS_ONLY = GovernanceRecipe(clean_labels=False)
TABLES = ("items", "queries", "impressions", "judgements")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("log")
    pictures = synthetic.SyntheticRecipe(items=12, train_photos=8, val_photos=1, side_px=48)
    simulate(synthetic.load(pictures, root / "cache"), root / "log", SimulationRecipe(broken_rows=0))
    return root / "log"


@pytest.fixture(scope="module")
def expected(log: Path) -> str:
    return govern(log, log.parent / "set", CLICKS_ONLY).hash


def table(log: Path, name: str) -> pa.Table:
    """With absolute picture paths, because the pictures do not move with the tables."""
    found = pq.read_table(log / f"{name}.parquet")
    if "image" in found.column_names:
        at = found.column_names.index("image")
        placed = [str(log / image) for image in found["image"].to_pylist()]
        found = found.set_column(at, "image", pa.array(placed))
    return found


def write_csv(found: pa.Table, path: Path, delimiter: str = ",", encoding: str = "utf-8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    csv.write_csv(found, path, csv.WriteOptions(delimiter=delimiter))
    path.write_text(path.read_text(), encoding=encoding)


def write_json_lines(found: pa.Table, path: Path) -> None:
    rows = [json.dumps(row, default=lambda time: time.isoformat()) for row in found.to_pylist()]
    path.write_text("\n".join(rows))


def test_csv_json_lines_and_parts_beside_each_other(log: Path, expected: str, tmp_path: Path) -> None:
    write_csv(table(log, "items"), tmp_path / "items.csv")
    write_json_lines(table(log, "queries"), tmp_path / "queries.jsonl")
    shown = table(log, "impressions")
    (tmp_path / "impressions" / "day=2").mkdir(parents=True)
    write_csv(shown.slice(0, 100), tmp_path / "impressions" / "a.csv", delimiter=";")
    pq.write_table(shown.slice(100), tmp_path / "impressions" / "day=2" / "b.parquet")
    write_csv(table(log, "judgements"), tmp_path / "judgements-1.csv")
    assert govern(tmp_path, tmp_path / "set", CLICKS_ONLY).hash == expected


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_a_spreadsheet_marks_its_encoding(log: Path, expected: str, tmp_path: Path, encoding: str) -> None:
    for name in TABLES:
        write_csv(table(log, name), tmp_path / f"{name}.csv", delimiter="\t", encoding=encoding)
    assert govern(tmp_path, tmp_path / "set", CLICKS_ONLY).hash == expected


def test_tables_in_different_places_by_glob_and_name(log: Path, expected: str, tmp_path: Path) -> None:
    items = table(log, "items")
    for number in range(3):
        write_csv(items.slice(4 * number, 4), tmp_path / "export" / f"artikel-{number}.csv")
    for name in TABLES[1:]:
        pq.write_table(table(log, name), tmp_path / "export" / f"{name}.parquet")
    (tmp_path / "shop.toml").write_text(
        f'source = "{tmp_path / "export"}"\n[items]\nsource = "artikel-[0-9]*.csv"\n'
    )
    shop = Shop.of(tmp_path / "shop.toml")
    assert govern(shop, tmp_path / "set", CLICKS_ONLY).hash == expected


@pytest.mark.slow
def test_s3(log: Path, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_process.serving(tmp_path / "s3") as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        store, _ = fs.FileSystem.from_uri(f"s3://{s3_process.BUCKET}")
        for name in TABLES:
            pq.write_table(
                table(log, name), f"{s3_process.BUCKET}/2025/{name}/part-0.parquet", filesystem=store
            )
        source = f"s3://{s3_process.BUCKET}/2025"
        assert govern(Shop.of(source), tmp_path / "set", CLICKS_ONLY).hash == expected
        with pytest.raises(ContractError, match=r"s3://shop/2024/items\.parquet is missing"):
            govern(Shop.of(f"s3://{s3_process.BUCKET}/2024"), tmp_path / "none", CLICKS_ONLY)
    with pytest.raises(ContractError, match="AWS_ENDPOINT_URL"):
        govern(Shop.of(source), tmp_path / "away", CLICKS_ONLY)


@contextmanager
def web_server(folder: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with served(functools.partial(Quiet, directory=folder)) as url:
        yield url


def test_a_web_server(log: Path, expected: str, tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    for name in TABLES:
        pq.write_table(table(log, name), tmp_path / "web" / f"{name}.parquet")
    with web_server(tmp_path / "web") as url:
        assert govern(Shop.of(url), tmp_path / "set", CLICKS_ONLY).hash == expected


def test_a_warehouse(log: Path, expected: str, tmp_path: Path) -> None:
    import ibis

    with postgres_server.serving() as server:
        url = server.url
        connection = ibis.connect(url)
        for name in TABLES:
            connection.create_table(name, table(log, name))
        assert govern(Shop.of(url), tmp_path / "set", CLICKS_ONLY).hash == expected
        connection.raw_sql("CREATE SCHEMA old; ALTER TABLE items SET SCHEMA old").close()
        connection.con.commit()
        connection.disconnect()
        with pytest.raises(ContractError, match="no table items"):
            govern(Shop.of(url), tmp_path / "none", CLICKS_ONLY)
        (tmp_path / "shop.toml").write_text(f'source = "{url}"\n[items]\nsource = "old.items"\n')
        assert govern(Shop.of(tmp_path / "shop.toml"), tmp_path / "old", CLICKS_ONLY).hash == expected
    with pytest.raises(ContractError, match="does not answer"):
        govern(Shop.of(url), tmp_path / "away", CLICKS_ONLY)


def test_a_database_file(log: Path, expected: str, tmp_path: Path) -> None:
    """Ibis calls a method for it that DuckDB has dropped."""
    with duckdb.connect(tmp_path / "shop.duckdb") as base:
        for name in TABLES:
            base.register("rows", table(log, name))
            base.execute(f"CREATE TABLE {name} AS SELECT * FROM rows")
            base.unregister("rows")
    found = govern(Shop.of(f"duckdb://{tmp_path}/shop.duckdb"), tmp_path / "set", CLICKS_ONLY)
    assert found.hash == expected


def test_pictures_behind_urls(log: Path, expected: str, tmp_path: Path) -> None:
    with web_server(log.parent) as url:
        for name in TABLES:
            found = table(log, name)
            if "image" in found.column_names:
                at = found.column_names.index("image")
                paths = [Path(image).relative_to(log.parent) for image in found["image"].to_pylist()]
                found = found.set_column(at, "image", pa.array([f"{url}/{path}" for path in paths]))
            pq.write_table(found, tmp_path / f"{name}.parquet")
        public = govern_with(tmp_path, PictureRules(tries=1))
        assert public is None, "a private address is not asked"
        fetched = govern_with(tmp_path, PictureRules(allow_private=True))
        assert fetched is not None and fetched.hash == expected
        assert all(Path(item.image).is_relative_to(tmp_path / "pictures") for item in fetched.items)
    again = govern_with(tmp_path, PictureRules(allow_private=True, tries=1))
    assert again is not None and again.hash == expected, "nothing is asked twice"


def govern_with(folder: Path, rules: PictureRules) -> TrainingSet | None:
    try:
        downloads = Downloads(folder / "pictures", rules)
        return govern(folder, folder / "set", CLICKS_ONLY, downloads=downloads)
    except ContractError as error:
        assert "is not a public address" in str(error)
        return None
