import pyarrow as pa
import pytest

from immr.data.list_columns import lists
from immr.errors import ContractError


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([["a", "b"], None, []]), [["a", "b"], None, []]),
        (
            pa.array(["a|b", None, "a", '["a", 5]', '{"a": 1}', "[a"]),
            [["a", "b"], None, ["a"], ["a", 5], [{"a": 1}], ["[a"]],
        ),
        (pa.array([38, None]), [["38"], None]),
    ],
)
def test_lists_are_read_from_lists_json_and_text(
    values: pa.Array, expected: list[list[object] | None]
) -> None:
    assert lists(values, "tags", "texts", "items.csv") == expected


def test_another_type_is_refused() -> None:
    with pytest.raises(
        ContractError, match="items: column tags holds struct<a: int64> and should hold lists of texts"
    ):
        lists(pa.array([{"a": 1}]), "tags", "texts", "items")
