"""Descriptions in HTML become the text that a shopper sees."""

import pyarrow as pa
import pytest

from immr.data.mapping.column_rule import ColumnRule
from immr.data.mapping.html_text import read_html


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        ("<p>Crisp &amp; sweet.</p>\n<ul><li>Organic</li><li>Red</li></ul>", "Crisp & sweet. Organic Red"),
        ('<p class="a">10&nbsp;cm<br/>wide</p>', "10 cm wide"),
        ("a < b, 3 <4 and 5> 2", "a < b, 3 <4 and 5> 2"),
        ("<style>p { x }</style><!-- <b>no</b> --><SCRIPT>1</SCRIPT >Tea", "Tea"),
        ("plain", "plain"),
        ("<p></p>", ""),
        (None, None),
    ],
)
def test_what_is_seen(given: str | None, seen: str | None) -> None:
    assert read_html(pa.array([given], pa.string())).to_pylist() == [seen]


def test_a_rule_reads_html() -> None:
    batch = pa.RecordBatch.from_pydict({"x": ["<b>Tea</b>"]})
    assert ColumnRule(column="x", html=True).values(batch, "title", "items.csv").to_pylist() == ["Tea"]
    with pytest.raises(ValueError, match="contradict"):
        ColumnRule(column="x", html=True, decimal=",")
