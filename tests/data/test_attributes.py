"""Declared attributes: from a shop's columns to items."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from immr.data.attributes import kinds_of
from immr.data.item_changes import read_items
from immr.data.sources.shop import Shop
from immr.data.validation.check import check
from immr.errors import ContractError

HEAD = "item_id,title,description,category,image,price,updated_at"
ROW = "{},A thing,,Things,a.jpg,1.5,2025-01-01T12:00:00Z"
DECLARATION = 'brand = "keyword"\nsize = "number"\nyear = "number"\n'


def write_csv(folder, *rows):
    (folder / "attributes.toml").write_text(DECLARATION)
    lines = [f"{ROW.format(number)},{row}" for number, row in enumerate(rows)]
    (folder / "items.csv").write_text("\n".join([f"{HEAD},brand,size,other", *lines]))
    return folder / "items.csv"


def test_declared_columns_become_attributes_and_missing_values_are_left_out(tmp_path):
    file = write_csv(tmp_path, "Nike,42,x", ",,y", " Ærø ,4.25e1,z", "nan,nan,nan")
    items = read_items(file).items
    assert [item.attributes for item in items] == [
        {"brand": "Nike", "size": 42.0},
        {},
        {"brand": "Ærø", "size": 42.5},
        {},
    ]
    assert kinds_of(items) == {"brand": "keyword", "size": "number"}


def test_an_unreadable_number_rejects_its_row(tmp_path):
    file = write_csv(tmp_path, "Nike,42,x", "Nike,large,x", "Nike,inf,x")
    counts = read_items(file).counts
    assert (counts.valid, counts.rejected) == (1, {"size is not a number": 2})


def test_the_same_values_from_parquet_and_json_lines(tmp_path):
    (tmp_path / "attributes.toml").write_text(DECLARATION)
    row = dict(zip(HEAD.split(","), ROW.format(7).split(","), strict=True))
    table = pa.Table.from_pylist([{**row, "brand": "Nike", "size": 42, "year": float("nan")}])
    pq.write_table(table, tmp_path / "items.parquet")
    expected = {"brand": "Nike", "size": 42.0}
    [item] = read_items(tmp_path / "items.parquet").items
    assert item.attributes == expected


def test_without_a_declaration_there_are_no_attributes(tmp_path):
    file = write_csv(tmp_path, "Nike,42,x")
    (tmp_path / "attributes.toml").unlink()
    assert [item.attributes for item in read_items(file).items] == [{}]


def test_check_reads_the_declaration(tmp_path):
    write_csv(tmp_path, "Nike,42,x", "Nike,large,x")
    report = next(report for report in check(tmp_path) if report.name == "items")
    assert report.ignored_columns == ("other",)
    assert [(problem.reason, problem.example) for problem in report.problems] == [
        ("size is not a number", "'large'")
    ]
    (tmp_path / "attributes.toml").write_text("brand = ")
    assert "is not TOML" in check(tmp_path)[0].error


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("brand", "is not TOML"),
        ('brand = "text"', "brand is 'text': declare it as"),
        ("brand = 5", "brand is 5: declare it as"),
        ('price = "number"', "'price' cannot be an attribute"),
        ('"a.b" = "number"', "'a.b' cannot be an attribute"),
    ],
)
def test_an_invalid_declaration_is_explained(tmp_path, content, words):
    (tmp_path / "attributes.toml").write_text(content)
    with pytest.raises(ContractError, match=words):
        Shop.of(tmp_path).attributes()


def test_an_attribute_of_two_kinds_is_refused(tmp_path):
    items = read_items(write_csv(tmp_path, "Nike,42,x")).items
    (tmp_path / "attributes.toml").write_text('size = "keyword"')
    with pytest.raises(ContractError, match="size is a keyword in 0 and a number in other items"):
        kinds_of([*items, *read_items(tmp_path / "items.csv").items])


def test_equal_values_are_written_alike_and_lists_in_json_lines_are_refused(tmp_path):
    file = write_csv(tmp_path, "Cafe\u0301,1,x", "Café ,2,x")
    assert [item.attributes["brand"] for item in read_items(file).items] == ["Café", "Café"]
    row = dict(zip(HEAD.split(","), ROW.format(7).split(","), strict=True))
    (tmp_path / "items.jsonl").write_text(json.dumps({**row, "brand": ["Nike", "Puma"]}))
    with pytest.raises(
        ContractError, match=r'brand is a list or an object: .* or declare an attribute as "keywords"'
    ):
        read_items(tmp_path / "items.jsonl")
    (tmp_path / "items.jsonl").unlink()
    pq.write_table(pa.Table.from_pylist([{**row, "brand": ["Nike", "Puma"]}]), tmp_path / "items.parquet")
    with pytest.raises(ContractError, match='or declare brand as "keywords"'):
        read_items(tmp_path / "items.parquet")


def test_lists_of_keywords_from_every_format(tmp_path):
    (tmp_path / "attributes.toml").write_text('sizes = "keywords"')
    row = dict(zip(HEAD.split(","), ROW.format(7).split(","), strict=True))
    expected = {"sizes": ["38", "38.5", "Café"]}
    given = [" 38 ", "38.5", "Cafe\u0301", "", "nan", "38"]
    pq.write_table(pa.Table.from_pylist([{**row, "sizes": [*given, None]}]), tmp_path / "items.parquet")
    (tmp_path / "items.jsonl").write_text(json.dumps({**row, "sizes": [38, 38.5, "Café", None]}))
    csv = [f"{HEAD},sizes", f"{ROW.format(7)},{'|'.join(given)}", f"{ROW.format(8)},", f"{ROW.format(9)}, | "]
    (tmp_path / "items.csv").write_text("\n".join(csv))
    for name in ("items.parquet", "items.jsonl", "items.csv"):
        items = read_items(tmp_path / name).items
        assert [item.attributes for item in items] == [expected, {}, {}][: len(items)]
    numbers = pa.table({**{name: [value] for name, value in row.items()}, "sizes": [[38.0, 38.5]]})
    pq.write_table(numbers, tmp_path / "items.parquet")
    [item] = read_items(tmp_path / "items.parquet").items
    assert item.attributes == {"sizes": ["38", "38.5"]} and kinds_of([item]) == {"sizes": "keywords"}


def test_a_list_with_something_else_than_keywords_rejects_its_row(tmp_path):
    (tmp_path / "attributes.toml").write_text('tags = "keywords"')
    row = dict(zip(HEAD.split(","), ROW.format(7).split(","), strict=True))
    lists = [["a"], [["a"]], [{"a": 1}], {"a": 1}, [True]]
    rows = [json.dumps({**row, HEAD.split(",")[0]: str(n), "tags": each}) for n, each in enumerate(lists)]
    (tmp_path / "items.jsonl").write_text("\n".join(rows))
    counts = read_items(tmp_path / "items.jsonl").counts
    assert (counts.valid, counts.rejected) == (1, {"tags is not a list of texts": 4})


def test_a_declaration_may_begin_with_a_byte_order_mark(tmp_path):
    file = write_csv(tmp_path, "Nike,42,x")
    (tmp_path / "attributes.toml").write_text("\ufeff" + DECLARATION)
    assert read_items(file).items[0].attributes["brand"] == "Nike"


def test_a_mapping_names_a_list_or_splits_a_text(tmp_path):
    (tmp_path / "attributes.toml").write_text('tags = "keywords"\nlabels = "keywords"')
    (tmp_path / "map.toml").write_text(
        """[items.columns]\ntags = "Tags"\nlabels = { sql = "replace(Labels, ', ', '|')" }\n"""
    )
    row = dict(zip(HEAD.split(","), ROW.format(7).split(","), strict=True))
    (tmp_path / "items.jsonl").write_text(json.dumps({**row, "Tags": ["a", "b"], "Labels": "c, d"}))
    [item] = read_items(tmp_path / "items.jsonl", tmp_path / "map.toml").items
    assert item.attributes == {"tags": ["a", "b"], "labels": ["c", "d"]}
