"""PostgreSQL URLs: libpq's parameters, the schema, and errors that quote no password."""

import pytest

from immr.errors import SettingsError
from immr.events.postgres.url import PostgresUrl


def test_host_user_database_and_schema_are_read() -> None:
    url = PostgresUrl.parse("postgresql://immr@db.example:6543/events?sslmode=verify-full&schema=shop_a")
    assert (url.schema, url.shown) == ("shop_a", "db.example:6543/events")
    expected = {
        "host": "db.example",
        "port": "6543",
        "user": "immr",
        "dbname": "events",
        "sslmode": "verify-full",
    }
    assert expected.items() <= url.parameters.items()
    assert url.parameters["options"] == "-c search_path=shop_a"


def test_a_parameter_of_the_url_replaces_a_default() -> None:
    assert PostgresUrl.parse("postgresql://host/db").parameters["connect_timeout"] == "10"
    assert PostgresUrl.parse("postgresql://host/db?connect_timeout=3").parameters["connect_timeout"] == "3"
    options = PostgresUrl.parse("postgresql://host/db?options=-c%20jit%3Doff").parameters["options"]
    assert options == "-c jit=off -c search_path=immr_events"


def test_a_plus_sign_is_no_space() -> None:
    assert PostgresUrl.parse("postgresql://host/db?password=a+b%2Fc%20d").parameters["password"] == "a+b/c d"


def test_a_password_is_not_shown() -> None:
    url = PostgresUrl.parse("postgresql://immr:hunter2@host/db")
    assert url.parameters["password"] == "hunter2"
    assert "hunter2" not in repr(url) + url.shown


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://immr:hunter%zz2@host/db",
        "postgresql://immr:hunter2@host/db?no_such_parameter=1",
        "postgresql://immr:hunter2@[host/db",
        "postgresql://immr:hunter2@host:port/db",
    ],
)
def test_a_wrong_url_is_refused_without_quoting_it(url: str) -> None:
    with pytest.raises(SettingsError, match="not a PostgreSQL URL") as caught:
        PostgresUrl.parse(url)
    assert "hunter" not in str(caught.value)


@pytest.mark.parametrize("schema", ["Shop", "a-b", "", 'x";DROP'])
def test_a_schema_that_needs_quotes_is_refused(schema: str) -> None:
    with pytest.raises(SettingsError, match="lower-case letters"):
        PostgresUrl.parse(f"postgresql://host/db?schema={schema}&connect_timeout=1")
