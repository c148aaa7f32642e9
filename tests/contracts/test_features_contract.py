"""The same cases on every feature store: Feast on SQLite, on a real Redis, and as the production overlay sets it up.

That is a Redis with password and TLS, and Feast's registry in a real PostgreSQL. Servers that are not installed are
skipped.
"""

import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from immr.errors import ContractError, FeaturesUnavailableError
from immr.features.item_stats import SCHEMA
from immr.features.user_clicks import USERS_SCHEMA
from immr.settings import Settings
from immr.types import ItemFeatures, UserFeatures
from immr.wiring import connect
from tests.support import redis_process

NOW = datetime(2025, 6, 8, 12, tzinfo=UTC)


def _stats(names, price=2.0, clicks=3, when=NOW, stock=7.0):
    return pa.Table.from_pylist(
        [
            {
                "item_id": name,
                "price": price,
                "category": f"Fruit/{name}",
                "impressions_7d": 30,
                "clicks_7d": clicks,
                "ctr_7d": clicks / 30,
                "stock": stock,
                "updated_at": NOW - timedelta(days=2),
                "event_timestamp": when,
            }
            for name in names
        ],
        SCHEMA,
    )


@pytest.fixture(params=["sqlite", "redis", "production"])
def store(request, tmp_path):
    if request.param == "sqlite":
        return connect(Settings(home=tmp_path)).features
    if request.param == "production":
        return connect(Settings(home=tmp_path, **request.getfixturevalue("production"))).features
    url = request.getfixturevalue("redis_url")
    return connect(Settings(home=tmp_path, features_url=url)).features


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory):
    with redis_process.serving(tmp_path_factory.mktemp("redis")) as port:
        yield port


@pytest.fixture
def redis_url(redis_server):
    """An empty database."""
    redis_process.forget_everything(redis_server)
    return f"redis://127.0.0.1:{redis_server}"


@pytest.fixture(scope="module")
def secured_redis(tmp_path_factory):
    folder = tmp_path_factory.mktemp("secured")
    redis_process.make_certificate(folder, "IP:127.0.0.1")
    (folder / "password").write_text("a,b=c d\n")
    with redis_process.serving_with_tls(folder, "a,b=c d") as port:
        yield folder, port


@pytest.fixture
def production(secured_redis, postgres):
    """Settings: an empty Redis, and a schema that does not exist yet."""
    import redis

    folder, port = secured_redis
    options = {"ssl": True, "ssl_ca_certs": str(folder / "tls.crt"), "password": "a,b=c d"}
    with redis.Redis("127.0.0.1", port, **options) as client:
        client.flushall()
    return {
        "features_url": f"rediss://127.0.0.1:{port}?ca={folder}/tls.crt",
        "features_password_file": folder / "password",
        "features_registry_url": f"{postgres.url}?schema=features_{uuid.uuid4().hex}",
    }


def test_before_the_first_materialization_the_error_is_explained(store):
    for attempt in (lambda: store.read(["a"]), store.warm, lambda: store.push(_stats(["a"]))):
        with pytest.raises(FeaturesUnavailableError, match="never materialized: run `immr materialize`"):
            attempt()
    assert not store.ready
    assert store.freshness() is None


def test_reads_what_was_materialized_and_leaves_out_the_unknown(store):
    assert store.materialize(_stats(["apple", "pear"])) == 2
    found = store.read(["pear", "no such item", "apple", "pear"])
    assert found == {
        "apple": ItemFeatures(2.0, "Fruit/apple", 30, 3, pytest.approx(0.1), 7.0, NOW - timedelta(days=2)),
        "pear": ItemFeatures(2.0, "Fruit/pear", 30, 3, pytest.approx(0.1), 7.0, NOW - timedelta(days=2)),
    }
    assert [type(value) for value in (found["pear"].price, found["pear"].clicks_7d)] == [float, int]
    assert store.read([]) == {}


def test_pushes_are_read_at_once_and_materializing_again_replaces_them(store):
    store.materialize(_stats(["apple", "pear"]))
    assert store.push(_stats(["pear", "kiwi"], clicks=9, when=NOW + timedelta(minutes=1))) == 2
    clicks = {item: features.clicks_7d for item, features in store.read(["apple", "pear", "kiwi"]).items()}
    assert clicks == {"apple": 3, "pear": 9, "kiwi": 9}
    store.materialize(_stats(["apple", "pear"], price=5.0, when=NOW + timedelta(hours=1)))
    assert {features.price for features in store.read(["apple", "pear"]).values()} == {5.0}
    assert store.push(_stats([])) == 0


def test_a_stock_may_be_unknown_or_zero(store):
    store.materialize(pa.concat_tables([_stats(["a"], stock=None), _stats(["b"], stock=0.0), _stats(["c"])]))
    assert {name: found.stock for name, found in store.read(["a", "b", "c"]).items()} == {
        "a": None,
        "b": 0.0,
        "c": 7.0,
    }
    store.push(_stats(["b"], stock=None, when=NOW + timedelta(minutes=1)))
    assert store.read(["b"])["b"].stock is None


def test_freshness_is_the_newest_row(store):
    store.materialize(_stats(["apple"]))
    assert store.freshness() == NOW
    store.push(_stats(["apple"], when=NOW + timedelta(minutes=1)))
    assert store.freshness() == NOW + timedelta(minutes=1)
    store.push(_stats(["apple"], when=NOW - timedelta(minutes=1)))
    assert store.freshness() == NOW + timedelta(minutes=1)


def test_features_with_future_times_are_replaced(store):
    store.materialize(_stats(["apple", "pear"], clicks=1, when=datetime(2099, 1, 1, tzinfo=UTC)))
    store.materialize(_stats(["apple", "pear"], clicks=5))
    assert {features.clicks_7d for features in store.read(["apple", "pear"]).values()} == {5}
    assert store.freshness() == NOW
    store.push(_stats(["apple"], clicks=6, when=NOW + timedelta(minutes=1)))
    assert store.read(["apple"])["apple"].clicks_7d == 6


def test_warm_makes_it_ready(store):
    store.materialize(_stats(["apple"]))
    assert not store.ready
    store.warm()
    assert store.ready


def test_tables_that_do_not_fit_are_refused(store):
    with pytest.raises(ContractError, match="price"):
        store.materialize(_stats(["apple"]).drop_columns(["price"]))
    with pytest.raises(ContractError, match="no row"):
        store.materialize(_stats([]))
    with pytest.raises(ContractError, match="item_stats"):
        store.push(_stats(["a"]).set_column(1, "price", pa.array(["dear"])))


def _users(names, items=("apple", "pear"), when=None):
    rows = {
        "items": list(items),
        "categories": ["Fruit"] * len(items),
        "prices": [2.0] * len(items),
        "attributes": ['{"brand": "Ä"}'] * len(items),
    }
    when = when or datetime.now(UTC)
    return pa.Table.from_pylist(
        [{"user_id": name, **rows, "event_timestamp": when} for name in names], USERS_SCHEMA
    )


def test_users_are_read_and_replaced_as_a_whole(store):
    store.materialize(_stats(["apple"]), _users(["ann", "ben"]))
    both = UserFeatures(("apple", "pear"), ("Fruit",) * 2, (2.0, 2.0), ({"brand": "Ä"},) * 2)
    assert [store.read_user(name) for name in ("ann", "ben", "cy", "")] == [both, both, None, None]
    store.push(_stats(["apple"], when=NOW + timedelta(minutes=1)), _users(["ben", "cy"], ["pear"]))
    found = [store.read_user(name) for name in ("ann", "ben", "cy")]
    assert [user and user.items for user in found] == [None, ("pear",), ("pear",)]
    store.push(_stats(["apple"], when=NOW + timedelta(minutes=2)))
    assert [store.read_user(name) for name in ("ann", "ben", "cy")] == [None] * 3
    assert set(store.read(["apple"])) == {"apple"}


def test_a_forgotten_user_never_comes_back(store):
    store.forget("cy")
    store.materialize(_stats(["apple"]), _users(["ann", "ben", "cy"]))
    assert store.read_user("cy") is None
    store.forget("ann")
    assert [store.read_user(name) is None for name in ("ann", "ben")] == [True, False]
    store.materialize(_stats(["apple"]), _users(["ann", "ben"]))
    assert [store.read_user(name) is None for name in ("ann", "ben")] == [True, False]


def test_users_with_future_times_are_replaced(store):
    store.materialize(_stats(["apple"]), _users(["ann"], when=datetime(2099, 1, 1, tzinfo=UTC)))
    store.materialize(_stats(["apple"]), _users(["ann"], ["pear"]))
    assert store.read_user("ann").items == ("pear",)


def test_threads_read_while_others_push(store):
    names = [f"i{n}" for n in range(50)]
    store.materialize(_stats(names))
    with ThreadPoolExecutor(6) as pool:
        newer = [_stats(names, float(n), n, NOW + timedelta(minutes=n)) for n in range(8)]
        pushes = [pool.submit(store.push, stats) for stats in newer]
        reads = [pool.submit(store.read, names) for _ in range(40)]
        found = [read.result() for read in reads]
        assert [push.result() for push in pushes] == [50] * 8
    assert all(len(features) == 50 for features in found)
    rows = {(one.price, one.clicks_7d) for features in found for one in features.values()}
    assert rows <= {(2.0, 3), *((float(n), n) for n in range(8))}  # no torn rows
