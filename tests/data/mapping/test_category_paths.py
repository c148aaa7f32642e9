"""Category paths as shops write them."""

import pyarrow as pa
import pytest

from immr.data.mapping.category_paths import canonical_path, joined_paths, read_paths


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            pa.array(["Küche > Töpfe > Gusseisen", "Audio/Video > TV", "", None]),
            ["Küche/Töpfe/Gusseisen", "Audio-Video/TV", "", None],
        ),
        (pa.array([["家具", "椅子"], [], None]), ["家具/椅子", "", None]),
        (pa.array(['["Kitchen", "Pots"]', "[sale] > Pots"]), ["Kitchen/Pots", "[sale]/Pots"]),
    ],
)
def test_paths(values: pa.Array, expected: list[str | None]) -> None:
    assert read_paths(values, ">").to_pylist() == expected


def test_one_column_per_level() -> None:
    levels = [pa.array(["Kitchen", "Garden"]), pa.array(["Pots", None]), pa.array(["", " Tools "])]
    assert joined_paths(levels).to_pylist() == ["Kitchen/Pots", "Garden/Tools"]


@pytest.mark.parametrize("text", ["Obst/Äpfel", "/Obst//Äpfel/", " Obst / Äpfel ", "Obst/A\u0308pfel"])
def test_a_path_has_one_form(text: str) -> None:
    assert canonical_path(text) == "Obst/Äpfel"
    assert canonical_path("//") == ""


@pytest.mark.parametrize(
    "values", [pa.array([[{"name": "Fruit"}]]), pa.array(['[{"name": "Fruit"}]', "Fruit"])]
)
def test_an_object_is_not_a_level(values: pa.Array) -> None:
    with pytest.raises(ValueError, match=r'a level is \{"name": "Fruit"\} instead of text'):
        read_paths(values, ">")
