from datetime import UTC, datetime

import pyarrow as pa

from immr.governance.manifest import of_rows

ROWS = [
    {
        "id": "a",
        "image": "/x/1.jpg",
        "n": 1,
        "share": 0.25,
        "on": True,
        "ts": datetime(2025, 1, 1, tzinfo=UTC),
    },
    {
        "id": "bc",
        "image": "/x/2.jpg",
        "n": 2,
        "share": None,
        "on": False,
        "ts": datetime(2025, 1, 2, tzinfo=UTC),
    },
    {
        "id": "",
        "image": "/x/3.jpg",
        "n": -3,
        "share": 1.5,
        "on": True,
        "ts": datetime(2025, 1, 3, tzinfo=UTC),
    },
]


def hashed(rows: list[dict[str, object]], chunk_rows: int = 10) -> dict[str, object]:
    return of_rows(pa.Table.from_pylist(rows).to_batches(max_chunksize=chunk_rows))


def test_the_hash_does_not_depend_on_chunks_and_places() -> None:
    moved = [{**row, "image": "elsewhere"} for row in ROWS]
    assert hashed(ROWS) == hashed(ROWS, chunk_rows=1) == hashed(moved)


def test_the_hash_depends_on_every_value_and_its_row() -> None:
    changed = [
        [{**ROWS[0], "id": "ab"}, {**ROWS[1], "id": "c"}, ROWS[2]],  # the same text, cut elsewhere
        [ROWS[1], ROWS[0], ROWS[2]],
        ROWS[:2],
        [{**ROWS[0], "share": 0.0}, *ROWS[1:]],
        [ROWS[0], {**ROWS[1], "share": 0.0}, ROWS[2]],  # a missing value is not zero
        [{**ROWS[0], "on": False}, *ROWS[1:]],
        [{**ROWS[0], "ts": datetime(2025, 1, 1, 1, tzinfo=UTC)}, *ROWS[1:]],
        [{**row, "other": 1} for row in ROWS],
    ]
    digests = [hashed(rows)["sha256"] for rows in [ROWS, *changed]]
    assert len(set(digests)) == len(digests)
