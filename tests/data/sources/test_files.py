import gzip
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from immr.data.sources import files
from immr.data.sources.files import FilePart, is_table
from immr.data.sources.locations import Location
from immr.data.sources.table_parts import MALFORMED
from immr.errors import ContractError

ROW = {"query_id": "q1", "user_id": "ann", "ts": "2025-01-01T12:00:00Z", "image": "photos/q1.jpg"}
CSV = ",".join(ROW) + "\n" + ",".join(ROW.values()) + "\n"


def part(path: Path) -> FilePart:
    return FilePart(Location.of(path))


def rows_of(path: Path) -> list[dict[str, object]]:
    return [row for batch in part(path).batches() for row in batch.to_pylist()]


@pytest.mark.parametrize(
    "name", ["queries.csv", "queries.txt", "queries.csv.gz", "queries.jsonl", "queries.parquet"]
)
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist([ROW]), path)
    elif name.endswith(".jsonl"):
        path.write_text(json.dumps(ROW) + "\n\n")
    else:
        path.write_bytes(gzip.compress(CSV.encode()) if name.endswith(".gz") else CSV.encode())
    assert part(path).columns() == list(ROW)
    assert rows_of(path) == [ROW]


@pytest.mark.parametrize(("delimiter", "encoding"), [(";", "utf-8"), ("\t", "utf-8-sig"), ("|", "utf-16")])
def test_delimiter_and_encoding_are_found(tmp_path: Path, delimiter: str, encoding: str) -> None:
    (tmp_path / "queries.csv").write_text(CSV.replace(",", delimiter), encoding=encoding)
    assert rows_of(tmp_path / "queries.csv") == [ROW]


def test_hidden_files_and_markers_are_ignored(tmp_path: Path) -> None:
    names = ("queries.csv", ".queries.csv", "_queries.csv", "_SUCCESS", "notes.md")
    assert [name for name in names if is_table(Location.of(tmp_path / name))] == ["queries.csv"]


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    for name, content in (("queries.parquet", b"PAR1"), ("queries.csv.gz", b"\x1f\x8b not gzip")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ContractError, match=rf"{name} is not a readable .* file .*: write it again"):
            rows_of(tmp_path / name)
    (tmp_path / "queries.jsonl").write_text(json.dumps(ROW) + "\n{broken\n")
    with pytest.raises(ContractError, match=r"line 2 of .*queries\.jsonl is not JSON"):
        rows_of(tmp_path / "queries.jsonl")


def test_a_line_with_a_wrong_number_of_columns_is_kept_as_malformed(tmp_path: Path) -> None:
    path = tmp_path / "queries.csv"
    path.write_text(CSV + '"q,2",ann\nq3,ann,,x.jpg,too,many\n')
    good, *malformed = rows_of(path)
    assert good == ROW
    assert malformed == [
        {"query_id": "q,2", "user_id": "ann", "ts": None, "image": None, MALFORMED: '"q,2",ann'},
        {"query_id": "q3", "user_id": "ann", "ts": "", "image": "x.jpg", MALFORMED: "q3,ann,,x.jpg,too,many"},
    ]


def test_an_unclosed_quote_is_an_error_because_it_swallows_the_rest(tmp_path: Path) -> None:
    (tmp_path / "queries.csv").write_text(CSV + 'q2,"ann\n' + CSV)
    with pytest.raises(ContractError, match=r"has a quote that is not closed .*: close it"):
        rows_of(tmp_path / "queries.csv")


def test_rows_are_counted_without_reading_them_all(tmp_path: Path) -> None:
    pq.write_table(pa.table({"query_id": ["a", "b", "c"]}), tmp_path / "queries.parquet")
    assert part(tmp_path / "queries.parquet").rows() == 3
    line = ",".join(ROW.values()) + "\n"
    (tmp_path / "queries.csv").write_text(",".join(ROW) + "\n" + 5_000 * line)
    assert part(tmp_path / "queries.csv").rows() == pytest.approx(5_000, rel=0.01)
    (tmp_path / "queries.csv.gz").write_bytes(gzip.compress(CSV.encode()))
    assert part(tmp_path / "queries.csv.gz").rows() is None  # its unpacked size is not known
    (tmp_path / "empty.csv").write_text("")
    assert part(tmp_path / "empty.csv").rows() == 0


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("queries.csv", b"PAR1", "is a Parquet file: name it .parquet"),
        ("queries.csv", b"PK\x03\x04", "is an Excel or ZIP file: export it as CSV"),
        (
            "queries.csv",
            b'\xef\xbb\xbf<?xml version="1.0"?><rss>',
            "is XML: export it as CSV or tab-separated text",
        ),
        ("queries.jsonl", b"\n<!DOCTYPE html><html>", "is an HTML page: download the export itself"),
        ("queries.csv", gzip.compress(CSV.encode(), mtime=0), "is packed by gzip: add .gz to its name"),
        ("queries.jsonl", gzip.compress(b"{}", mtime=0), "is packed by gzip: add .gz to its name"),
        ("queries.csv.gz", CSV.encode(), "is not packed by gzip: take .gz off its name"),
        ("queries.csv", CSV.encode("utf-16-le"), "has zero bytes, as UTF-16 and UTF-32 do"),
        ("queries.csv", (CSV + "q2,Jörg,,\n").encode("cp1252"), "another encoding than UTF-8.*encoding ="),
        ("queries.jsonl", b'{"a": "\xfc"}', "another encoding than UTF-8.*encoding ="),
        (
            "queries.csv.gz",
            gzip.compress(gzip.compress(CSV.encode(), mtime=0), mtime=0),
            "is packed by gzip twice",
        ),
        ("queries.csv.gz", gzip.compress(b"PK\x03\x04", mtime=0), "is an Excel or ZIP file"),
        ("queries.csv", b'[{"query_id": "q1"}]', "is JSON: name it .jsonl, with one object per line"),
        ("queries.csv", b'{"query_id": "q1"}\n', "is JSON: name it .jsonl"),
        ("queries.csv", b"<TABLE border=1><tr><td>", "is an HTML table"),
        ("queries.csv", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "is an Excel file: save it as CSV"),
        ("queries.csv", b"BZh91AY", "is packed by bzip2"),
        ("queries.csv", b"", "is empty, or has only a header"),
        ("queries.csv", b"query_id,ts", "is empty, or has only a header"),
    ],
)
def test_a_file_of_another_kind_says_what_to_do(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ContractError, match=words):
        rows_of(tmp_path / name)


@pytest.mark.parametrize("name", ["gone.csv", "gone.csv.gz", "gone.jsonl", "gone.jsonl.gz", "gone.parquet"])
def test_a_file_that_vanished_is_named(tmp_path: Path, name: str) -> None:
    reads = (FilePart.columns, FilePart.rows, lambda gone: list(gone.batches()), FilePart.start)
    for read in reads:
        with pytest.raises(ContractError, match=rf"{name} is not a readable .*No such file or directory"):
            read(part(tmp_path / name))


@pytest.mark.parametrize("name", ["queries.CSV.GZ", "queries.csv.Gz", "queries.JSONL.GZ"])
def test_gzip_is_recognized_in_names_of_any_case(tmp_path: Path, name: str) -> None:
    content = CSV if "csv" in name.lower() else json.dumps(ROW)
    (tmp_path / name).write_bytes(gzip.compress(content.encode()))
    assert part(tmp_path / name).columns() == list(ROW)
    assert rows_of(tmp_path / name) == [ROW]
    assert part(tmp_path / name).rows() is None
    (tmp_path / name).write_text(content)
    with pytest.raises(ContractError, match="is not packed by gzip"):
        rows_of(tmp_path / name)


def test_the_last_part_of_a_name_is_its_kind(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([ROW]), tmp_path / "queries.csv.parquet")
    (tmp_path / "of.csv.jsonl").write_text(json.dumps(ROW))
    (tmp_path / "queries.TSV").write_text(CSV.replace(",", "\t"))
    for name in ("queries.csv.parquet", "of.csv.jsonl", "queries.TSV"):
        assert rows_of(tmp_path / name) == [ROW]


def test_columns_that_folders_name(tmp_path: Path) -> None:
    pq.write_table(pa.table({"query_id": ["a", "b"], "ts": ["1", "2"]}), tmp_path / "q.parquet")
    partitions = (("user_id", "ann"), ("image", None), ("ts", "of the folder"))
    found = FilePart(Location.of(tmp_path / "q.parquet"), partitions=partitions)
    assert found.columns() == ["query_id", "ts", "user_id", "image"]
    [batch] = found.batches()
    assert batch.to_pylist()[0] == {"query_id": "a", "ts": "1", "user_id": "ann", "image": None}
    [batch] = found.batches(columns=["user_id", "ts"])
    assert batch.to_pylist()[1] == {"ts": "2", "user_id": "ann"}
    assert found.state() != part(tmp_path / "q.parquet").state()


def test_an_encoding_that_does_not_fit_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "queries.csv").write_text(CSV)
    with pytest.raises(ContractError, match=r"queries\.csv has another encoding"):
        list(FilePart(Location.of(tmp_path / "queries.csv"), encoding="utf-16").batches())


def test_a_parquet_file_that_does_not_match_its_checksums_is_refused(tmp_path: Path) -> None:
    """Spark writes checksums."""
    path = tmp_path / "items.parquet"
    options = {"compression": "none", "use_dictionary": False, "write_page_checksum": True}
    pq.write_table(pa.table({"price": [1.0] * 100}), path, **options)
    content = bytearray(path.read_bytes())
    content[300] ^= 1
    path.write_bytes(content)
    with pytest.raises(ContractError, match=r"not a readable Parquet file \(.*checksum"):
        rows_of(path)


def test_rows_with_pictures_in_them_are_read_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """131,072 rows of 200 KB did not fit into memory."""
    monkeypatch.setattr(files, "_CHUNK_BYTES", 2**16)
    path = tmp_path / "items.parquet"
    rows = pa.table({"item_id": list(range(100)), "picture": [os.urandom(2**12) for _ in range(100)]})
    pq.write_table(rows, path, use_dictionary=False, compression="none")
    lengths = [len(batch) for batch in part(path).batches()]
    assert max(lengths) <= 16 and sum(lengths) == 100
