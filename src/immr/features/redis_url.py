"""URLs of a Redis server, and what Feast's Redis store connects with."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from immr.errors import SettingsError

_FORM = re.compile(r"rediss?://(?:[\w.-]+@)?[\w.-]+(?::\d+)?(?:/\d*)?(?:\?ca=/[^,&\s]+)?")


@dataclass(frozen=True)
class RedisUrl:
    """`redis://[user@]host[:port][/database]`, or `rediss://…[?ca=/path]` for TLS.

    Attributes:
        ca: File with the certificates to trust; empty for those of the system. TLS always checks the certificate
            and the host name.
    """

    host: str
    port: int = 6379
    database: int = 0
    user: str = ""
    tls: bool = False
    ca: str = ""

    @classmethod
    def parse(cls, url: str) -> RedisUrl:
        """Parse a URL. It holds no password: it would be copied into `feature_store.yaml`.

        Raises:
            SettingsError: The URL has another form. The message does not quote it, since it may hold a password.
        """
        parts = urlsplit(url)
        query = dict(parse_qsl(parts.query))
        if not _FORM.fullmatch(url) or (query and parts.scheme == "redis"):
            raise SettingsError(
                "IMMR_FEATURES_URL is not redis://[user@]host:port[/database] or rediss://…[?ca=/path], with the "
                "password in IMMR_FEATURES_PASSWORD_FILE: correct it. For a Redis cluster, name a Feast repository "
                "(file://…) with a feature_store.yaml of your own"
            )
        return cls(
            host=str(parts.hostname),
            port=parts.port or 6379,
            database=int(parts.path.lstrip("/") or 0),
            user=parts.username or "",
            tls=parts.scheme == "rediss",
            ca=query.get("ca", ""),
        )

    @property
    def name(self) -> str:
        """Tells servers and databases apart, for the name of a folder."""
        return f"{self.host}-{self.port}-{self.database}"

    @property
    def options(self) -> Mapping[str, str | int | bool]:
        """Arguments of the Redis client, apart from host, port and password."""
        options: dict[str, str | int | bool] = {"db": self.database}
        options |= {"username": self.user} if self.user else {}
        if self.tls:
            options |= {"ssl": True, "ssl_cert_reqs": "required", "ssl_check_hostname": True}
            options |= {"ssl_ca_certs": self.ca} if self.ca else {}
        return options


def connection_string(url: RedisUrl, **more: str | int | bool) -> str:
    """What Feast calls a connection string: `host:port,name=value,…`, where a value may be JSON."""
    options = {**url.options, **more}
    return ",".join([f"{url.host}:{url.port}", *(f"{name}={_value(one)}" for name, one in options.items())])


def with_password(connection_string: str, password: str) -> str:
    """The connection string with a password, which may contain any character."""
    # Feast splits at commas before it reads the JSON
    return f"{connection_string},password={json.dumps(password).replace(',', chr(92) + 'u002c')}"


def _value(value: str | int | bool) -> str:
    return value if isinstance(value, str) else json.dumps(value)
