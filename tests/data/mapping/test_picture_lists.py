"""Pictures as lists, as JSON, as text with separators, and in a column each."""

import json
import re

import pyarrow as pa
import pytest

from immr.data.mapping.column_rule import ColumnRule
from immr.data.mapping.picture_lists import expression_for_objects, read_picture_lists
from immr.data.mapping.value_formats import picture_rules
from immr.errors import ContractError


@pytest.mark.parametrize(
    ("value", "separator", "pictures"),
    [
        (
            "https://x.example/a.jpg,https://x.example/b.jpg",
            ",",
            ["https://x.example/a.jpg", "https://x.example/b.jpg"],
        ),
        (
            "https://x.example/a.jpg , http://y.example/b.jpg",
            ",",
            ["https://x.example/a.jpg", "http://y.example/b.jpg"],
        ),
        ("https://x.example/w_3,h_4/a.jpg", ",", ["https://x.example/w_3,h_4/a.jpg"]),  # a comma within a URL
        ("a.jpg; b.jpg;", ";", ["a.jpg", "b.jpg"]),
        ("a.jpg|b.jpg", "", ["a.jpg", "b.jpg"]),
        ('["a.jpg", null, "b,c.jpg"]', ",", ["a.jpg", "b,c.jpg"]),
        (["a.jpg", None, " b.jpg "], ",", ["a.jpg", "b.jpg"]),
        ("[1] a.jpg", ",", ["[1] a.jpg"]),
        ("", ",", []),
        (None, ",", []),
    ],
)
def test_values_of_each_form(value: object, separator: str, pictures: list[str]) -> None:
    assert read_picture_lists([pa.array([value])], separator).to_pylist() == [pictures]


def test_more_brackets_than_json_can_nest_are_text() -> None:
    assert read_picture_lists([pa.array(["[" * 100_000])]).to_pylist() == [["[" * 100_000]]


def test_image_takes_the_first_of_what_images_takes_all_of() -> None:
    batch = pa.RecordBatch.from_pydict({"all": ["a.jpg,b.jpg", "", None], "more": ["c.jpg", "d.jpg", ""]})
    for rule, lists in (
        (ColumnRule(column="all", separator=",", prefix="p/"), [["p/a.jpg", "p/b.jpg"], [], []]),
        (ColumnRule(columns=("more", "all"), separator=","), [["c.jpg", "a.jpg", "b.jpg"], ["d.jpg"], []]),
    ):
        assert rule.values(batch, "images", "items.csv").to_pylist() == lists
        firsts = [next(iter(pictures), None) for pictures in lists]
        assert rule.values(batch, "image", "items.csv").to_pylist() == firsts


def test_a_prefix_is_put_before_a_picture_with_a_bar_and_before_each_further_one() -> None:
    batch = pa.RecordBatch.from_pydict({"x": ["a|b.jpg"]})
    rule = ColumnRule(column="x", prefix="p/")
    assert rule.values(batch, "image", "items.csv").to_pylist() == ["p/a|b.jpg"]
    assert rule.values(batch, "images", "items.csv").to_pylist() == [["p/a", "p/b.jpg"]]


@pytest.mark.parametrize("wrong", ['{"src": "a.jpg"}', "{}", "0", "false"])
def test_a_list_of_other_things_than_texts_is_refused_with_the_remedy(wrong: str) -> None:
    batch = pa.RecordBatch.from_pydict({"x": [f"[{wrong}]"]})
    with pytest.raises(
        ContractError, match=f"a list has {re.escape(wrong)} instead of text: extract the text with sql"
    ):
        ColumnRule(column="x", separator=",").values(batch, "images", "items.csv")


@pytest.mark.parametrize(
    ("values", "first"),
    [
        (
            pa.array(
                ['[{"alt": "front", "url": "https://a.example/1.jpg"}, {"url": "https://a.example/2.jpg"}]']
            ),
            True,
        ),
        (pa.array([None, [{"id": 7, "src": "1.jpg"}, {"id": 8, "src": "2.jpg"}]]), True),
        (pa.array(['{"link": "https://a.example/9", "file": "1.webp"}']), False),
        (pa.array([{"w": 3, "file name": "1.png", "href": "//cdn.example/1"}]), False),
    ],
)
def test_pictures_within_objects_are_proposed_as_an_expression(values: pa.Array, first: bool) -> None:
    """As MongoDB, Shopify's API and Parquet have them."""
    [rule] = picture_rules('my "pictures"', values)
    batch = pa.RecordBatch.from_arrays([values], ['my "pictures"'])
    images, [image, *_] = (
        rule.values(batch, "images", "here"),
        rule.values(batch, "image", "here").drop_null().to_pylist(),
    )
    found = [each for each in images.to_pylist() if each]
    assert image == found[0][0] and len(found[0]) == (2 if first else 1)
    assert image.endswith(("1.jpg", "1.webp", "/cdn.example/1"))


@pytest.mark.parametrize("value", ['["1.jpg"]', '[{"alt": "front"}]', "1.jpg, 2.jpg", "[{", ""])
def test_other_values_have_no_expression(value: str) -> None:
    assert expression_for_objects("pictures", pa.array([value])) == ""


NESTED = {
    "id": 5,
    "web": {"width": "893", "url": "https://x.example/a.webp"},
    "print": {"url": "https://x.example/b.png"},
}


@pytest.mark.parametrize("values", [pa.array([json.dumps(NESTED), None]), pa.array([NESTED, None])])
def test_a_picture_within_an_object_of_an_object(values: pa.Array) -> None:
    """A museum's catalogue; the whole inner object was taken for the path of a picture."""
    expression = expression_for_objects("images", values)
    batch = pa.RecordBatch.from_pydict({"images": values})
    found = ColumnRule(sql=expression, separator=",").values(batch, "image", "items.jsonl").to_pylist()
    assert found == ["https://x.example/a.webp", None]
