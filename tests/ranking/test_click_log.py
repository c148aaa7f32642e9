from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from immr.data.contract import IMPRESSIONS, QUERIES
from immr.errors import RankingError
from immr.ranking import click_log
from immr.ranking.click_log import EPOCH, features_on
from immr.ranking.examples import stats_columns
from tests.support import ranking_log
from tests.support.ranking_log import BEGIN


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("log")
    ranking_log.write(made, queries=200, users=20)
    return made


def test_impressions_are_sorted_by_time_query_and_position(folder: Path) -> None:
    log = ranking_log.read(folder)
    assert len(log.user_Q) == 200
    assert (np.diff(log.time_Q) >= 0).all()
    assert (np.diff(log.query_R) >= 0).all()
    assert log.position_R[:6].tolist() == [1, 2, 3, 4, 5, 6]
    assert log.starts_Q.tolist() == list(range(0, 1201, 6))


def test_the_newest_queries_are_used(folder: Path) -> None:
    whole, newest = ranking_log.read(folder), ranking_log.read(folder, max_queries=30)
    assert newest.time_Q.tolist() == whole.time_Q[-30:].tolist()


def test_some_queries_are_a_log_as_well(folder: Path) -> None:
    log = ranking_log.read(folder)
    kept = np.arange(200) % 2 == 1
    half = log.only(kept)
    assert half.query_R.tolist() == np.repeat(np.arange(100), 6).tolist()
    assert half.photo_Q == log.photo_Q[1::2]
    assert half.item_R[:6].tolist() == log.item_R[6:12].tolist()


def test_bots_are_left_out(folder: Path, tmp_path: Path) -> None:
    asked, shown = (pq.read_table(folder / f"{name}.parquet") for name in ("queries", "impressions"))
    crawl = [
        {"query_id": f"crawl{n}", "user_id": "bot", "ts": BEGIN + timedelta(seconds=n / 10), "image": "0"}
        for n in range(50)
    ]
    seen = [
        {**row, "query_id": f"crawl{n}", "clicked": True}
        for n, row in enumerate(shown.slice(0, 50).to_pylist())
    ]
    pq.write_table(
        pa.concat_tables([asked, pa.Table.from_pylist(crawl, QUERIES.columns)]), tmp_path / "queries.parquet"
    )
    pq.write_table(
        pa.concat_tables([shown, pa.Table.from_pylist(seen, IMPRESSIONS.columns)]),
        tmp_path / "impressions.parquet",
    )
    log = ranking_log.read(tmp_path)
    assert "bot" not in log.user_Q
    assert len(log.of_bots) == 50


def test_features_are_those_before_the_day(folder: Path) -> None:
    catalogue = pa.table(
        {
            "item_id": ["i0", "i1"],
            "price": [1.0, 9.0],
            "category": ["C/0", "C/1"],
            "stock": pa.nulls(2, pa.float64()),
            "updated_at": pa.array([BEGIN] * 2, pa.timestamp("us", tz="UTC")),
        }
    )
    log = ranking_log.read(folder)
    first_day = (BEGIN - EPOCH).days
    at_first = features_on(first_day, log, catalogue, ["i0"])
    assert at_first["i0"].impressions_7d == 0
    shown = pq.read_table(folder / "impressions.parquet").to_pylist()
    before = [row for row in shown if row["item_id"] == "i0" and row["ts"] < BEGIN + timedelta(days=3)]
    at_fourth = features_on(first_day + 3, log, catalogue, ["i0"])
    assert at_fourth.keys() == {"i0"}
    assert at_fourth["i0"].impressions_7d == len(before) > 0
    assert at_fourth["i0"].clicks_7d == sum(row["clicked"] for row in before)
    assert at_fourth["i0"].stock is None


def test_in_a_log_of_dates_no_click_is_in_its_own_features(folder: Path, tmp_path: Path) -> None:
    for name in ("queries", "impressions"):
        rows = pq.read_table(folder / f"{name}.parquet")
        dates = rows["ts"].cast(pa.timestamp("us")).cast(pa.date32()).cast(rows["ts"].type)
        rows = rows.set_column(rows.schema.get_field_index("ts"), "ts", dates)
        pq.write_table(rows, tmp_path / f"{name}.parquet")
    log = ranking_log.read(tmp_path)
    catalogue = stats_columns(ranking_log.items())
    every = [item.item_id for item in ranking_log.items()]
    first_day = int(log.day_Q[0])
    assert all(each.impressions_7d == 0 for each in features_on(first_day, log, catalogue, every).values())
    second = features_on(first_day + 1, log, catalogue, every).values()
    assert sum(each.impressions_7d for each in second) == (log.day_Q[log.query_R] == first_day).sum()


def test_a_log_of_another_shop_is_refused(folder: Path) -> None:
    with pytest.raises(RankingError, match="of one shop"):
        click_log.read(folder / "impressions.parquet", folder / "queries.parquet", [], 10)
