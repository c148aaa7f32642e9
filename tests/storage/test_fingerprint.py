from dataclasses import dataclass
from pathlib import Path

import pytest

from immr.storage import fingerprint


@dataclass(frozen=True)
class Box:
    side: float
    where: Path


def test_the_order_of_keys_does_not_matter() -> None:
    assert fingerprint.of_values({"a": 1, "b": 2}) == fingerprint.of_values({"b": 2, "a": 1})


def test_a_record_counts_by_its_values() -> None:
    first, same = Box(1.0, Path("x")), Box(1.0, Path("x"))
    assert fingerprint.of_values(first) == fingerprint.of_values(same)
    assert fingerprint.of_values(first) != fingerprint.of_values(Box(2.0, Path("x")))


def test_a_value_without_content_is_refused() -> None:
    with pytest.raises(TypeError, match="cannot fingerprint a object"):
        fingerprint.of_values(object())


def test_a_file_counts_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"same")
    assert fingerprint.of_file(tmp_path / "a") == fingerprint.of_bytes(b"same")


@pytest.mark.parametrize("after", [(), (3, [4.5])])
@pytest.mark.parametrize("many", [[], [{"b": "ä", "a": 1}], [1, Box(1.0, Path("x"))]])
def test_many_values_count_as_a_list_of_them(many: list[object], after: tuple[object, ...]) -> None:
    expected = fingerprint.of_values("words", None, many, *after)
    assert fingerprint.of_many(("words", None), iter(many), after) == expected
