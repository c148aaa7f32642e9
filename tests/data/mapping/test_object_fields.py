"""A field of objects, and the expression that reads it."""

from typing import Any

import pyarrow as pa
import pytest

from immr.data.mapping.column_rule import ColumnRule
from immr.data.mapping.object_fields import expression_for, listed, objects_in

LISTS = [[{"name": "Fruit", "de-DE": "Obst"}, {"name": "Apples", "de-DE": "Äpfel"}], None]


@pytest.mark.parametrize(
    ("values", "field", "expected"),
    [
        (pa.array(LISTS), "name", [["Fruit", "Apples"], None]),
        (pa.array(LISTS), "de-DE", [["Obst", "Äpfel"], None]),
        (pa.array(['[{"name": "Fruit"}, {"name": "Apples"}]', None]), "name", [["Fruit", "Apples"], None]),
        (pa.array(['{"de-DE": "Apfel", "en": "Apple"}', None]), "de-DE", ["Apfel", None]),
        (pa.array([{"de-DE": "Apfel"}, None]), "de-DE", ["Apfel", None]),
    ],
)
def test_the_field_of_each_object(values: pa.Array, field: str, expected: list[Any]) -> None:
    assert objects_in(values)
    rule = ColumnRule(sql=expression_for('the "column"', values, field))
    batch = pa.RecordBatch.from_pydict({'the "column"': values})
    assert rule.values(batch, "title", "here").to_pylist() == expected


@pytest.mark.parametrize("values", [["Fruit"], ['["Fruit"]'], ['[{"name": "Fruit"}, "Apples"]'], [None, ""]])
def test_other_values_have_no_objects(values: list[str | None]) -> None:
    assert objects_in(pa.array(values, pa.string())) == []


@pytest.mark.parametrize(
    "values",
    [
        pa.array([1], pa.timestamp("us", "Mars/Phobos")),
        pa.array([2**62], pa.timestamp("s")),
        pa.array([b"\xff"]).cast(pa.string(), safe=False),
    ],
)
def test_what_python_cannot_express_has_no_objects(values: pa.Array) -> None:
    assert listed(values) == objects_in(values) == []
