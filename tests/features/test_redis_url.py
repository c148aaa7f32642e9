"""URLs of Redis, and what Feast's own parser and the Redis client make of them."""

from __future__ import annotations

import pytest

from immr.errors import SettingsError
from immr.features.redis_url import RedisUrl, connection_string, with_password


def test_a_url_names_server_database_user_and_certificates() -> None:
    assert RedisUrl.parse("redis://cache") == RedisUrl("cache", 6379, 0)
    url = RedisUrl.parse("rediss://reader@cache.example:6380/2?ca=/etc/ca.crt")
    assert url == RedisUrl("cache.example", 6380, 2, user="reader", tls=True, ca="/etc/ca.crt")
    assert url.name == "cache.example-6380-2"


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis://:secret@host:6379",
        "rediss://me:secret@host",
        "redis://host/one",
        "redis://h?ssl=1",
        "redis://h?ca=/etc/ca.crt",
        "rediss://h?ca=relative.crt",
        "rediss://h?ca=/a,b",
    ],
)
def test_other_urls_are_refused_without_quoting_them(url: str) -> None:
    with pytest.raises(SettingsError, match="IMMR_FEATURES_PASSWORD_FILE") as raised:
        RedisUrl.parse(url)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("password", ["plain", "12345", "true", 'a,b="c"\\d', "x=y"])
def test_feast_reads_every_option_and_any_password(password: str) -> None:
    from feast.infra.online_stores.redis import RedisOnlineStore

    url = RedisUrl.parse("rediss://reader@cache:6380/2?ca=/etc/ca.crt")
    text = with_password(connection_string(url, socket_timeout=1), password)
    nodes, options = RedisOnlineStore._parse_connection_string(text)
    assert nodes == [{"host": "cache", "port": "6380"}]
    assert options == {**url.options, "socket_timeout": 1, "password": password}


def test_tls_checks_certificate_and_host_name() -> None:
    options = RedisUrl.parse("rediss://cache").options
    assert (options["ssl_cert_reqs"], options["ssl_check_hostname"]) == ("required", True)
