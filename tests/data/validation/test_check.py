"""A report on a sample: what fits the contract, what does not, and an example of each problem."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from immr.data.mapping.shop_map import PictureRules, ShopMap
from immr.data.sources.shop import Shop
from immr.data.validation.check import BrokenRule, TableReport, check
from tests.data.validation.test_tables import changed, item, write


def report_of(folder: Path, table: str, rows: int = 1000) -> TableReport:
    [found] = [report for report in check(folder, rows) if report.name == table]
    return found


def test_a_good_folder_fits(tmp_path: Path) -> None:
    reports = check(write(tmp_path / "in"))
    assert [report.name for report in reports] == ["items", "queries", "impressions"]
    assert all(report.fits and report.sampled == 1 for report in reports)


def test_problems_have_a_count_and_an_example(tmp_path: Path) -> None:
    folder = write(tmp_path / "in", items=[item(name) for name in "abcd"])
    changed(folder, "items", "price", pa.array(["1", "2,50", "3,50", "-1"]))
    found = report_of(folder, "items")
    assert (found.sampled, found.valid, found.fits) == (4, 1, False)
    assert found.problems == (
        BrokenRule("price is not a number", 2, "'2,50'"),
        BrokenRule("price is negative", 1, "'-1'"),
    )


def test_rows_that_repeat_a_key_are_a_problem_unless_they_are_merged(tmp_path: Path) -> None:
    folder = write(tmp_path / "in", items=[item(name) for name in "abab"])
    found = report_of(folder, "items")
    assert (found.valid, found.fits) == (2, False)
    assert found.problems == (BrokenRule("duplicate item_id", 2, "'a'"),)
    shown = pq.read_table(folder / "impressions.parquet")
    pq.write_table(pa.concat_tables([shown, shown]), folder / "impressions.parquet")
    assert report_of(folder, "impressions").fits


def test_events_in_the_folder_are_named_where_queries_are_missing(tmp_path: Path) -> None:
    folder = write(tmp_path / "in")
    (folder / "queries.parquet").unlink()
    (folder / "ga4.jsonl").write_text('{"event_name": "select_item", "items": []}\n')
    assert "ga4.jsonl has other columns than any table (event_name, items): if it has events" in (
        report_of(folder, "queries").error
    )


def test_a_malformed_csv_line_is_a_problem_with_its_text(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id,title,description,category,image,price,updated_at\na,Tea\n")
    [found] = check(tmp_path / "items.csv")
    assert found.problems == (BrokenRule("malformed_line has too many or too few columns", 1, "'a,Tea'"),)


@pytest.mark.parametrize("name", ["items.csv.gz", "items.jsonl.gz", "items.csv"])
def test_a_file_that_cannot_be_unpacked_is_reported(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x1f\x8b not gzip")
    [found] = check(tmp_path / name)
    assert name in found.error and found.proposal is None


def test_unprintable_values_are_shown_as_examples(tmp_path: Path) -> None:
    folder = write(tmp_path / "in")
    changed(folder, "queries", "ts", pa.array([2**60], pa.int64()).cast(pa.timestamp("ms")))
    [problem] = report_of(folder, "queries").problems
    assert problem.example == "a timestamp[ms] that cannot be printed"


def test_only_a_sample_is_read(tmp_path: Path) -> None:
    folder = write(tmp_path / "in", items=[*(item(f"i{n}") for n in range(50)), item("bad", price=-1.0)])
    assert report_of(folder, "items", rows=50).fits
    assert not report_of(folder, "items", rows=51).fits


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_a_missing_column_is_reported_with_a_similar_one(tmp_path: Path, suffix: str) -> None:
    folder = write(tmp_path / "in")
    table = pq.read_table(folder / "items.parquet").rename_columns(
        {"item_id": "ITEM-ID", "price": "list_price"}
    )
    (folder / "items.parquet").unlink()
    if suffix == "parquet":
        pq.write_table(table, folder / "items.parquet")
    elif suffix == "csv":
        (folder / "items.csv").write_text(",".join(table.column_names) + "\n")
    else:
        pairs = ", ".join(f'"{name}": "x"' for name in table.column_names)
        (folder / "items.jsonl").write_text(f"{{{pairs}}}")
    found = report_of(folder, "items")
    assert "has no column item_id, price" in found.error
    assert found.proposal is not None
    columns = {name: rule.column for name, rule in found.proposal.rules.items()}
    assert columns == {"item_id": "ITEM-ID", "price": "list_price"}


def test_ignored_columns_and_missing_tables_are_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "in")
    table = pq.read_table(folder / "items.parquet")
    pq.write_table(table.append_column("colour", pa.array(["red"])), folder / "items.parquet")
    (folder / "queries.parquet").unlink()
    assert report_of(folder, "items").ignored_columns == ("colour",)
    assert "is missing" in report_of(folder, "queries").error


def test_files_that_cannot_be_tables_are_named(tmp_path: Path) -> None:
    (tmp_path / "feed.xml").write_text("<rss/>")
    (tmp_path / "products.json").write_text('[\n  {"id": 1}\n]\n')
    (tmp_path / "readme.md").write_text("x")
    items, queries, _ = check(tmp_path)
    assert items.error.startswith(
        "feed.xml is XML: export it as CSV or tab-separated text; products.json cannot be"
    )
    assert "write one object per line, for example with `jq -c '.[]'`" in items.error
    assert "items.parquet is missing" in items.error and "feed.xml" not in queries.error


def test_pictures_at_unknown_places_are_mentioned(tmp_path: Path) -> None:
    folder = write(tmp_path / "in", items=[item(name) for name in "ab"])
    changed(folder, "items", "image", pa.array(["s3://bucket/a.jpg", "HTTPS://cdn.example/a.jpg"]))
    assert report_of(folder, "items").missing_pictures == (
        "pictures that are neither files nor at http(s): 1 of the first 2, such as s3://bucket/a.jpg: copy them to a "
        "folder, map them to their http(s) URLs, or name their place at s3:// or gs:// in pictures.buckets of the "
        "mapping"
    )


def test_pictures_in_named_buckets_are_not_mentioned(tmp_path: Path) -> None:
    folder = write(tmp_path / "in")
    changed(folder, "items", "image", pa.array(["s3://bucket/a.jpg"]))
    mapping = ShopMap(pictures=PictureRules(buckets=("s3://bucket",)))
    [items, *_] = check(Shop(str(folder), mapping))
    assert items.fits and items.missing_pictures == ""


def test_pictures_without_a_file_are_mentioned(tmp_path: Path) -> None:
    (tmp_path / "there.jpg").touch()
    images = ("there.jpg", "away.jpg", "https://cdn.example/a.jpg")
    folder = write(tmp_path / "in", items=[item(name) for name in "abc"])
    changed(folder, "items", "image", pa.array([f"{tmp_path}/{images[0]}", images[1], images[2]]))
    found = report_of(folder, "items")
    assert found.missing_pictures == f"missing pictures: 1 of the first 2, such as {folder}/away.jpg"
    assert found.fits and not found.all_pictures_missing
    changed(folder, "items", "image", pa.array(["away.jpg", "file:///far/away.jpg", "file://far/away.jpg"]))
    assert report_of(folder, "items").all_pictures_missing
    (tmp_path / "a b.jpg").touch()
    changed(folder, "items", "image", pa.array([f"file://{tmp_path}/a%20b.jpg"] * 3))
    assert report_of(folder, "items").missing_pictures == ""


def test_paths_that_windows_wrote_get_a_remedy_that_works(tmp_path: Path) -> None:
    (tmp_path / "in" / "img").mkdir(parents=True)
    (tmp_path / "in" / "img" / "1.jpg").touch()
    folder = write(tmp_path / "in")
    changed(folder, "items", "image", pa.array([r"img\1.jpg"]))
    found = report_of(folder, "items").missing_pictures
    assert found.startswith(
        f"missing pictures: 1 of the first 1, such as {folder}/img\\1.jpg; to read its \\ as /"
    )
    (tmp_path / "map.toml").write_text(f"[items.columns]\n{found.partition('map ')[2]}\n")
    [items, *_] = check(Shop.of(str(folder), tmp_path / "map.toml"))
    assert items.fits and items.missing_pictures == ""


def test_addresses_without_a_scheme_get_a_hint(tmp_path: Path) -> None:
    folder = write(tmp_path / "in")
    changed(folder, "items", "image", pa.array(["//cdn.example/1.jpg"]))
    found = report_of(folder, "items").missing_pictures
    assert found.endswith('to read // as https://, map image = { column = "image", prefix = "https:" }')


@pytest.mark.parametrize(("prices", "noted"), [(["2.50", "1.299"], True), (["2.50", "1299.00"], False)])
def test_a_price_that_may_mean_thousands_is_noticed(tmp_path: Path, prices: list[str], noted: bool) -> None:
    """Without a mapping it is a valid number."""
    folder = write(tmp_path / "in", items=[item("a"), item("b")])
    changed(folder, "items", "price", pa.array(prices))
    found = report_of(folder, "items")
    assert found.fits
    sentence = (
        "'1.299' in price is read as a fraction: if it means thousands, add decimal = \",\" to the mapping"
    )
    assert found.unclear_price == (sentence if noted else "")


def test_ids_that_lost_their_zeros_are_noticed(tmp_path: Path) -> None:
    """Each row is valid by itself; governance would find no click on any item."""
    folder = write(tmp_path / "in", items=[item("0017"), item("a")])
    assert report_of(folder, "impressions").unknown_items == ""
    changed(folder, "impressions", "item_id", pa.array(["17"]))
    found = report_of(folder, "impressions")
    assert found.unknown_items == (
        "rows with an item that is not in the catalogue: 1 of 1, such as '17'; would match: 1 without "
        "zeros at the start. Export ids as text, alike in both tables"
    )
    assert report_of(folder, "impressions", rows=2).unknown_items == ""  # items may be beyond the sample


def test_local_times_in_one_of_two_tables_are_noticed(tmp_path: Path) -> None:
    """Each row is valid by itself; the day of a click would be wrong around midnight."""
    folder = write(tmp_path / "in")
    for table, times in (("queries", "2025-06-01T01:30:00"), ("impressions", "2025-05-31T23:30:04Z")):
        changed(folder, table, "ts", pa.array([times]))
    found = report_of(folder, "impressions")
    assert found.fits and found.shifted_times.startswith(
        "100% of the rows are 2 hours before their searches: "
    )
    (tmp_path / "map.toml").write_text(
        '[queries.columns]\nts = { column = "ts", zone = "Europe/Berlin" }\n[impressions]\n'
    )
    assert {each.shifted_times for each in check(Shop.of(str(folder), tmp_path / "map.toml"))} == {""}
    changed(folder, "impressions", "ts", pa.array(["2025-06-01T01:51:00Z"]))  # a click some time later
    assert report_of(folder, "impressions").shifted_times == ""


def test_a_log_without_its_first_slot_is_noticed(tmp_path: Path) -> None:
    """Each row is valid by itself; a ranker learned nothing of such a log."""
    folder = write(tmp_path / "in")
    row = pq.read_table(folder / "impressions.parquet").slice(0, 1)
    for lowest, start in ((1, ""), (2, "positions start at 2: "), (3, "positions start at 3: ")):
        rows = pa.concat_tables([row] * 200)
        position = pa.array([lowest + number % 5 for number in range(200)], row.schema.field("position").type)
        rows = rows.set_column(row.schema.get_field_index("position"), "position", position)
        pq.write_table(rows, folder / "impressions.parquet")
        found = report_of(folder, "impressions").late_positions
        assert found.startswith(start) and bool(found) == bool(start)
