from pathlib import Path

import pytest

from immr.data.sources.files import FilePart
from immr.data.sources.locations import Location


def rows_of(path: Path, content: str, encoding: str = "utf-8") -> list[dict[str, object]]:
    path.write_bytes(content.encode(encoding))
    return [row for batch in FilePart(Location.of(path)).batches() for row in batch.to_pylist()]


@pytest.mark.parametrize("line", ["sep=;", '"sep=;"', "SEP=;"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_excels_line_with_the_delimiter(tmp_path: Path, line: str, encoding: str) -> None:
    content = f"{line}\r\nid;title\r\n1;a,b\r\n"
    assert rows_of(tmp_path / "a.csv", content, encoding) == [{"id": "1", "title": "a,b"}]


def test_names_are_read_without_what_nobody_sees(tmp_path: Path) -> None:
    content = "\ufeffid , title\u200b,\u00a0price,,\n1,a,2,,\n"
    expected = {"id": "1", "title": "a", "price": "2", "column 4": "", "column 5": ""}
    assert rows_of(tmp_path / "a.csv", content) == [expected]


def test_quotes_behind_a_backslash_as_spark_writes_them(tmp_path: Path) -> None:
    content = 'id,title,image\n1,"5\\" pipe, red",C:\\img\\1.jpg\n2,"\\"a\\", \\"b\\"",x\n3,"",y\n'
    found = rows_of(tmp_path / "a.csv", content)
    assert [row["title"] for row in found] == ['5" pipe, red', '"a", "b"', ""]
    assert found[0]["image"] == "C:\\img\\1.jpg"  # other backslashes stay


def test_a_backslash_at_the_end_of_a_value_is_no_sign_of_that(tmp_path: Path) -> None:
    content = 'id,folder,title\n1,"C:\\","5"" pipe"\n2,"C:\\",b\n'
    found = rows_of(tmp_path / "a.csv", content)
    assert [(row["folder"], row["title"]) for row in found] == [("C:\\", '5" pipe'), ("C:\\", "b")]


@pytest.mark.parametrize("place", [0, 50_000, 99_999])
def test_rows_longer_than_a_block_are_read_once(tmp_path: Path, place: int) -> None:
    texts = ["a text of some length"] * 100_000
    texts[place] = "x, \n" * 600_000
    lines = [f'{number},"{text}"' for number, text in enumerate(texts)]
    lines.insert(30_000, "too,many,columns")
    found = rows_of(tmp_path / "a.csv", "\n".join(["id,title", *lines]) + "\n")
    good = [row for row in found if row.get("malformed_line") is None]
    assert len(good) == 100_000 and len(found) == 100_001
    assert all(row["id"] == str(number) for number, row in enumerate(good))
    assert all(row["title"] == text for row, text in zip(good, texts, strict=True))
    assert {row.get("malformed_line") for row in found} == {None, "too,many,columns"}
