"""PostgreSQL URLs: libpq's own, and the schema that holds the tables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from immr.errors import SettingsError
from immr.settings import query_of

_EXAMPLE = "postgresql://user@host:5432/database"
_DEFAULT_SCHEMA = "immr_events"
_DEFAULTS = {
    "application_name": "immr",
    "connect_timeout": "10",
    # a server that has vanished without closing its connections is noticed within a minute
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
}


@dataclass(frozen=True)
class PostgresUrl:
    """`postgresql://user@host:5432/database?schema=name&sslmode=verify-full`.

    The query holds libpq's connection parameters and `schema`, by default `immr_events`. libpq also
    reads the environment, so the password can come from PGPASSWORD.

    Attributes:
        schema: Holds the tables; created if missing.
        shown: Host, port and database, for messages.
        parameters: What libpq connects with.
    """

    schema: str
    shown: str
    parameters: Mapping[str, str] = field(repr=False)  # may hold a password

    @classmethod
    def parse(
        cls, url: str, variable: str = "IMMR_EVENTS_URL", default_schema: str = _DEFAULT_SCHEMA
    ) -> PostgresUrl:
        """Parse a URL.

        Args:
            url: The URL.
            variable: Where it comes from, for messages.
            default_schema: The schema of a URL that names none.

        Raises:
            SettingsError: libpq does not understand the URL, or the schema is not a name. The message never
                quotes the URL, which may hold a password anywhere.
        """
        from psycopg import ProgrammingError
        from psycopg.conninfo import conninfo_to_dict

        try:
            parts = urlsplit(url)
            shown = f"{parts.hostname or 'the default host'}:{parts.port or 5432}{parts.path}"
            query = query_of(url, keep_blank_values=True)
            schema = query.pop("schema", default_schema)
            # libpq takes a + literally, so a space must not become one
            given = conninfo_to_dict(urlunsplit(parts._replace(query=urlencode(query, quote_via=quote))))
        except (ValueError, ProgrammingError):
            raise SettingsError(
                f"{variable} is not a PostgreSQL URL that libpq understands: use {_EXAMPLE}, with "
                "percent escapes for special characters and only libpq's parameters and schema= in its query"
            ) from None
        if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", schema):
            raise SettingsError(
                f"{variable} has schema={schema}: use lower-case letters, digits and underscores"
            )
        parameters = _DEFAULTS | {name: str(value) for name, value in given.items()}
        parameters["options"] = f"{parameters.get('options', '')} -c search_path={schema}".strip()
        return cls(schema, shown, parameters)
