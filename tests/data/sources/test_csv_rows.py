import gzip
from pathlib import Path

import pytest

from immr.data.sources.files import FilePart
from immr.data.sources.locations import Location
from immr.errors import ContractError


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


def test_a_backslash_may_be_escaped_itself_as_mysql_writes_it(tmp_path: Path) -> None:
    content = 'id,title,n\n"1","12\\" pan","3"\n"2","C:\\\\","4"\n"3","a\\\\\\"b","5"\n'
    found = rows_of(tmp_path / "a.csv", content)
    assert [(row["title"], row["n"]) for row in found] == [('12" pan', "3"), ("C:\\", "4"), ('a\\"b', "5")]


@pytest.mark.parametrize("before", range(-1, 6))
def test_backslashes_are_counted_across_blocks(tmp_path: Path, before: int) -> None:
    start = 'id,title\n0,"12\\" pan"\n'
    filler = "1,abcdefg\n" * ((2**20 - len(start) - 100) // 10)
    last = '2,"' + "x" * (2**20 - before - len(start) - len(filler) - 3) + '\\\\\\" z\\\\"\n'
    found = rows_of(tmp_path / "a.csv", start + filler + last)
    assert str(found[-1]["title"]).lstrip("x") == '\\" z\\'


@pytest.mark.parametrize("end", ["\\", "\\\\"])
def test_a_file_may_end_in_a_backslash(tmp_path: Path, end: str) -> None:
    found = rows_of(tmp_path / "a.csv", f'id,title\n1,"12\\" pan"\n2,abc{end}')
    assert [row["title"] for row in found] == ['12" pan', f"abc{end}"]


@pytest.mark.parametrize("rows", [0, 3, 5_000, 299_998])
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_an_open_quote_does_not_swallow_the_rows_after_it(tmp_path: Path, name: str, rows: int) -> None:
    content = 'id,title\n6,a\n7,"abc\n' + "".join(f"{number},b\n" for number in range(rows))
    for end in ("", "8,b"):
        text = (content + end).encode()
        (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
        with pytest.raises(
            ContractError, match=rf"{name}: a quote .* whose id is '7', so its title goes to the"
        ):
            list(FilePart(Location.of(tmp_path / name)).batches())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp1252"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_an_open_quote_does_not_swallow_rows_up_to_another(
    tmp_path: Path, newline: str, encoding: str
) -> None:
    content = 'id,title\n7,"abc\n' + "".join(f"{number},b\n" for number in range(20_000)) + '8,"c"\n9,d\n'
    (tmp_path / "a.csv").write_bytes(content.replace("\n", newline).encode(encoding))
    with pytest.raises(ContractError, match="whose id is '7', so its title has 20,001 line breaks: close it"):
        list(FilePart(Location.of(tmp_path / "a.csv")).batches())


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n", '\n"8,",,\n', "\n,,,,\n"])
def test_a_text_of_several_lines_may_be_the_last(tmp_path: Path, end: str) -> None:
    found = rows_of(tmp_path / "a.csv", f'id,title\n7,"a\nb"{end}')
    assert [row.get("malformed_line") for row in found[1:]] == ([end.strip()] if ",," in end else [])
    assert (found[0]["id"], found[0]["title"]) == ("7", "a\nb")


def test_a_long_text_is_no_open_quote(tmp_path: Path) -> None:
    text = "a line\n" * 10_000
    content = f'id,title\n,"{text}"\n2,b\n'
    assert [row["title"] for row in rows_of(tmp_path / "a.csv", content)] == [text, "b"]
    with pytest.raises(ContractError, match="near the row whose id is '', so its title has 10,001 line"):
        rows_of(tmp_path / "a.csv", content.replace("a line", "a\nline", 1))


@pytest.mark.parametrize("place", [0, 50_000, 99_999])
def test_rows_longer_than_a_block_are_read_once(tmp_path: Path, place: int) -> None:
    texts = ["a text of some length"] * 100_000
    texts[place] = "x, \n" * 9_000 + "x, " * 800_000
    lines = [f'{number},"{text}"' for number, text in enumerate(texts)]
    lines.insert(30_000, "too,many,columns")
    found = rows_of(tmp_path / "a.csv", "\n".join(["id,title", *lines]) + "\n")
    good = [row for row in found if row.get("malformed_line") is None]
    assert len(good) == 100_000 and len(found) == 100_001
    assert all(row["id"] == str(number) for number, row in enumerate(good))
    assert all(row["title"] == text for row, text in zip(good, texts, strict=True))
    assert {row.get("malformed_line") for row in found} == {None, "too,many,columns"}


def test_a_formula_that_keeps_zeros_is_its_text(tmp_path: Path) -> None:
    """Systems write it for Excel, which would read 0017 as 17."""
    content = 'id,title\n"=""0017""",a\n="0018","=""5"""" pipe"""\n=1+1,="x" & "y"\n'
    found = rows_of(tmp_path / "a.csv", content)
    assert [row["id"] for row in found] == ["0017", "0018", "=1+1"]
    assert [row["title"] for row in found] == ["a", '5" pipe', '="x" & "y"']


def test_signs_within_the_quotes_of_a_name_are_no_delimiters(tmp_path: Path) -> None:
    content = 'id;title;"size (L, B, H, in cm, or in)"\n1;a;"1,2,3"\n'
    assert rows_of(tmp_path / "a.csv", content)[0]["title"] == "a"


@pytest.mark.parametrize("rows", [0, 100_000])
@pytest.mark.parametrize("line", [b"8,K\xe4se,x\n", b"K\xe4se\n", b"8,K\xe4se\n"])
def test_a_line_that_is_not_utf8_is_named_as_that_however_many_columns_it_has(
    tmp_path: Path, line: bytes, rows: int, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.csv").write_bytes(b"id,title\n" + b"1,a \xe2\x82\xac\n" * rows + line + b"9,b\n")
    with pytest.raises(ContractError, match="another encoding than UTF-8"):
        list(FilePart(Location.of(tmp_path / "a.csv")).batches())
    assert "Exception ignored" not in capfd.readouterr().err
