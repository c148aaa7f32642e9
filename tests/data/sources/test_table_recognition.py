"""Tables in files of other names are found by their columns."""

from __future__ import annotations

from pathlib import Path

from immr.data.sources.shop import Shop
from immr.data.sources.table_recognition import with_recognized_tables
from immr.data.validation.check import check, proposed_mapping
from tests.data.mapping.test_proposal import GERMAN


def test_tables_in_files_of_other_names_are_found_by_their_columns(tmp_path: Path) -> None:
    (tmp_path / "artikel.csv").write_bytes(GERMAN.encode("cp1252"))
    (tmp_path / "suchen.csv").write_text("\ufeffSuch-ID;Kunde;Zeitpunkt;Foto\n1;u;01.02.2025 10:00;a.jpg\n")
    (tmp_path / "klicks.csv").write_text(
        "Such-ID;Artikelnummer;Position;geklickt;bestellt;Zeitpunkt\n"
        "1;4711;0;ja;nein;01.02.2025 10:00\n1;0815;1;nein;nein;01.02.2025 10:00\n"
    )
    (tmp_path / "lager.csv").write_text("Platz;Regal\n1;2\n")
    before = check(tmp_path)
    assert [report.fits for report in before] == [False] * 3
    assert "artikel.csv has its columns" in before[0].error
    mapping = tmp_path / "map.toml"
    mapping.write_text(proposed_mapping(before))
    assert 'position = { column = "Position", plus = 1 }' in mapping.read_text()
    after = check(Shop.of(tmp_path, mapping))
    assert all(report.fits for report in after), after


def test_a_file_is_one_table_and_named_files_stay(tmp_path: Path) -> None:
    columns = "query_id,item_id,position,clicked,ordered,variant,model_version,ts"
    (tmp_path / "impressions.csv").write_text(f"{columns}\n")
    (tmp_path / "old-impressions.csv").write_text(f"{columns}\n")
    (tmp_path / "catalogue.csv").write_text("sku,name,description,category,image,price,updated_at\n")
    found = with_recognized_tables(Shop.of(tmp_path)).mapping
    assert (found.items.source, found.queries.source, found.impressions.source) == ("catalogue.csv", "", "")


def test_the_largest_file_is_the_table_and_those_with_its_columns_are_named(tmp_path: Path) -> None:
    (tmp_path / "artikel.csv").write_text(GERMAN)
    (tmp_path / "new.csv").write_text(GERMAN.partition("0815")[0])
    items = check(tmp_path)[0]
    assert "artikel.csv has its columns" in items.error
    assert "new.csv has the same columns, and is left out" in items.error
    assert 'source = "artikel.csv"' in proposed_mapping([items])
    assert "# source: new.csv has the same columns" in proposed_mapping([items])
    (tmp_path / "old.csv").write_text(GERMAN.partition("0815")[0])
    assert "new.csv, old.csv have the same columns, and are left out" in check(tmp_path)[0].error


def test_a_folder_that_is_not_there_is_no_folder_without_tables(tmp_path: Path) -> None:
    missing = tmp_path / "my-shp"
    assert {report.error for report in check(missing)} == {f"there is no folder {missing}: correct its path"}


def test_a_file_with_other_columns_is_named(tmp_path: Path) -> None:
    """A title above the header, or names that no table has."""
    (tmp_path / "export.csv").write_text("Products of 2025-06-01,,\nitem_id,title,price\n1,Tea,2\n")
    [items, *_] = check(tmp_path)
    assert (
        "export.csv has other columns than any table (Products of 2025-06-01, column 2, column 3)"
        in items.error
    )
    assert "check this file alone" in items.error and "items.parquet is missing" in items.error
