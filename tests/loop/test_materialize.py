"""Item features combine the click log and the event log; each impression counts once."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from immr.data.contract import IMPRESSIONS, QUERIES
from immr.errors import ContractError
from immr.loop import rank
from immr.loop.materialize import forget, materialize, push
from immr.settings import Settings
from immr.types import Click, Impression
from immr.wiring import Parts, connect
from tests.support import tiny_training_set

NOON = datetime(2025, 6, 1, 12, tzinfo=UTC)
ITEM = "item-0-red"


def shown(query_id: str, **changes: object) -> dict[str, object]:
    row: dict[str, object] = {
        "query_id": query_id,
        "item_id": ITEM,
        "position": 1,
        "clicked": True,
        "ordered": False,
        "variant": "control",
        "model_version": "former-search",
        "ts": NOON,
    }
    return row | changes


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A click log in two parts, one row of it broken."""
    (tmp_path / "shop" / "impressions").mkdir(parents=True)
    parts = [shown("a"), shown("b", clicked=False)], [shown("c"), shown("d", position=0)]
    for number, rows in enumerate(parts):
        table = pa.Table.from_pylist(rows, IMPRESSIONS.columns).append_column(
            "seen_on", pa.array(["web"] * 2)
        )
        pq.write_table(table, tmp_path / "shop" / "impressions" / f"{number}.parquet")
    return tmp_path / "shop"


class RecordedFeatures:
    """A feature store that keeps the rows it was given."""

    rows: list[dict[str, Any]]
    users: dict[str, list[str]] | None
    forgotten: str

    def materialize(self, stats: pa.Table, users: pa.Table | None = None) -> int:
        self.rows = stats.to_pylist()
        self.users = None if users is None else {row["user_id"]: row["items"] for row in users.to_pylist()}
        return len(self.rows)

    push = materialize

    @property
    def has_users(self) -> bool:
        return getattr(self, "users", None) is not None

    def forget(self, user_id: str) -> None:
        self.forgotten = user_id


def parts_with(home: Path) -> tuple[Parts, RecordedFeatures]:
    store = RecordedFeatures()
    return Parts.of(Settings(home=home), features=store), store


def test_only_impressions_that_meet_the_contract_count(tmp_path: Path, data: Path) -> None:
    parts, store = parts_with(tmp_path / "home")
    made = materialize(parts, tiny_training_set.write(tmp_path), data)
    assert (made.items, made.without_impressions) == (6, 5)
    assert made.sentence.splitlines()[0] == (
        "items with features online: 6, of which not shown in the last seven days: 5"
    )
    [impressions] = made.use
    assert (impressions.rows, impressions.usable, sum(impressions.lost.values())) == (4, 3, 1)
    features = store.rows
    assert [row["impressions_7d"] for row in features] == [3, 0, 0, 0, 0, 0]
    assert features[0]["clicks_7d"] == 2


def test_an_exported_query_counts_once(tmp_path: Path, data: Path) -> None:
    parts, store = parts_with(tmp_path / "home")
    later = NOON + timedelta(hours=1)
    with connect(parts.settings) as writing:
        writing.events.record_impressions(
            [Impression(name, ITEM, 1, "u", "champion", "immr-1", later) for name in ("c", "e")]
        )
    made = push(parts, tiny_training_set.write(tmp_path), data)
    parts.close()
    assert made.from_event_log == 2
    assert "impressions of the event log that count: 2" in made.sentence.splitlines()[0]
    assert made.use[0].lost["counted from the event log instead"] == 1
    # a, b, c and e; the event log's row of c is newer than the click log's
    assert (store.rows[0]["impressions_7d"], store.rows[0]["clicks_7d"]) == (4, 1)


def test_events_before_the_window_do_not_count(tmp_path: Path, data: Path) -> None:
    parts, store = parts_with(tmp_path / "home")
    record(parts, [("old", "u", NOON - timedelta(days=8)), ("new", "u", NOON + timedelta(days=1))])
    push(parts, tiny_training_set.write(tmp_path), data)
    parts.close()
    assert store.rows[0]["impressions_7d"] == 4  # a, b, c and "new"


def test_a_crawler_in_the_event_log_does_not_count(tmp_path: Path, data: Path) -> None:
    parts, store = parts_with(tmp_path / "home")
    crawl = [(f"crawl-{n}", "crawler", NOON + timedelta(seconds=n / 10)) for n in range(250)]
    record(parts, [*crawl, ("e", "shopper", NOON + timedelta(hours=1))])
    push(parts, tiny_training_set.write(tmp_path), data)
    parts.close()
    assert (store.rows[0]["impressions_7d"], store.rows[0]["clicks_7d"]) == (4, 2)  # a, b, c and e


def test_a_crawler_in_the_click_log_does_not_count(tmp_path: Path, data: Path) -> None:
    rows = [shown(f"crawl-{n}", clicked=False) for n in range(250)]
    pq.write_table(pa.Table.from_pylist(rows, IMPRESSIONS.columns), data / "impressions" / "2.parquet")
    queries = [
        {"query_id": row["query_id"], "user_id": "crawler", "ts": NOON, "image": "q.jpg"} for row in rows
    ] + [{"query_id": name, "user_id": name, "ts": NOON, "image": "q.jpg"} for name in ("a", "b", "c")]
    pq.write_table(pa.Table.from_pylist(queries, QUERIES.columns), data / "queries.parquet")
    parts, store = parts_with(tmp_path / "home")
    old = [shown("old", ts=NOON - timedelta(days=8)), shown("gone", item_id="sold-out")]
    pq.write_table(pa.Table.from_pylist(old, IMPRESSIONS.columns), data / "impressions" / "3.parquet")
    impressions, asked = materialize(parts, tiny_training_set.write(tmp_path), data).use
    assert (store.rows[0]["impressions_7d"], store.rows[0]["clicks_7d"]) == (3, 2)
    assert impressions.rows == impressions.usable + sum(impressions.lost.values()) == 256
    assert impressions.lost["of bots"] == 250
    assert impressions.lost["older than seven days"] == 1
    assert impressions.lost["of items that are not in the training set"] == 1
    assert (asked.table, asked.rows, asked.usable) == ("queries", 253, 253)


def test_the_event_log_is_never_read_as_rows(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, store = parts_with(tmp_path / "home")
    record(parts, [("e", "u", NOON)])
    monkeypatch.setattr(type(parts.events), "joined", None)
    assert push(parts, tiny_training_set.write(tmp_path), data).items == len(store.rows)
    parts.close()


def record(parts: Parts, searches: list[tuple[str, str, datetime]]) -> None:
    with connect(parts.settings) as writing:
        writing.events.record_impressions(
            [Impression(query, ITEM, 1, user, "champion", "immr-1", ts) for query, user, ts in searches]
        )


def test_a_folder_without_a_click_log_is_refused_by_name(tmp_path: Path) -> None:
    parts, _ = parts_with(tmp_path / "home")
    with pytest.raises(ContractError, match=r"impressions\.parquet is missing"):
        materialize(parts, tiny_training_set.write(tmp_path), tmp_path)


def write_queries(data: Path, **users: str) -> None:
    """The table of queries: a user for each."""
    rows = [
        {"query_id": query, "user_id": user, "ts": NOON, "image": "q.jpg"} for query, user in users.items()
    ]
    pq.write_table(pa.Table.from_pylist(rows, QUERIES.columns), data / "queries.parquet")


def test_users_get_features_only_if_the_ranking_is_personal(tmp_path: Path, data: Path) -> None:
    write_queries(data, a="ann", b="ben", c="cy")
    parts, store = parts_with(tmp_path / "home")
    training_set = tiny_training_set.write(tmp_path)
    assert materialize(parts, training_set, data).users is None
    assert store.users is None
    made = materialize(parts, training_set, data, personal=True)
    assert store.users == {"ann": [ITEM], "cy": [ITEM]}  # ben did not click
    assert made.users == 2
    assert "users with clicks in the last 30 days: 2" in made.sentence
    assert "searches ignore features of users, because the newest event is of 2025-" in made.sentence
    write_queries(data, a="ann", b="ben", c="anonymous-c")
    assert materialize(parts, training_set, data).users == 1, "as last time"
    made = materialize(parts, training_set, data, personal=False)
    assert (made.users, made.deleted_users, store.users) == (None, True, None)
    assert "those of users were deleted, because the recipe's ranking is not personal" in made.sentence
    assert not materialize(parts, training_set, data).deleted_users


def test_users_keep_features_while_a_personal_version_is_in_use(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as one that is tested, or waits for a test, while another recipe is refreshed."""
    write_queries(data, a="ann", b="ben", c="cy")
    parts, store = parts_with(tmp_path / "home")
    training_set = tiny_training_set.write(tmp_path)
    in_use = ["immr-3"]
    monkeypatch.setattr(rank, "personal_in_use", lambda parts: in_use)
    assert materialize(parts, training_set, data, personal=False).users is None, "nobody had features"
    materialize(parts, training_set, data, personal=True)
    for verb in (materialize, push):
        made = verb(parts, training_set, data, personal=False)
        assert (made.users, made.deleted_users) == (2, False)
        assert "users keep features for the ranking of immr-3" in made.sentence
    in_use.clear()
    assert materialize(parts, training_set, data, personal=False).deleted_users
    assert store.users is None


def test_a_click_log_without_users_gives_none(tmp_path: Path, data: Path) -> None:
    parts, store = parts_with(tmp_path / "home")
    assert materialize(parts, tiny_training_set.write(tmp_path), data, personal=True).users == 0
    assert store.users == {}


def test_clicks_of_users_come_from_both_logs_once_and_without_bots(tmp_path: Path, data: Path) -> None:
    write_queries(data, a="ann", b="ben", c="cy")
    parts, store = parts_with(tmp_path / "home")
    crawl = [(f"crawl-{n}", "crawler", NOON + timedelta(seconds=n / 10)) for n in range(60)]
    hour = timedelta(hours=1)
    searches = [
        ("c", "cy", NOON + hour),
        ("e", "ann", NOON + hour),
        ("anonymous", "anonymous-anonymous", NOON),
    ]
    record(parts, [*crawl, *searches])
    with connect(parts.settings) as writing:
        writing.events.record_clicks(
            [
                Click(query, "click", query, ITEM, NOON + hour)
                for query, *_ in (*crawl, *searches)
                if query != "c"
            ]
        )
    made = push(parts, tiny_training_set.write(tmp_path), data, personal=True)
    parts.close()
    # the event log's c was not clicked
    assert store.users == {"ann": [ITEM, ITEM]}
    assert made.users == 1


def test_forgetting_a_user_is_up_to_the_store(tmp_path: Path) -> None:
    parts, store = parts_with(tmp_path / "home")
    forget(parts, "ann")
    assert store.forgotten == "ann"
