"""Feast's registry in a PostgreSQL database, for many readers and writers.

Feast's file registry on a shared volume has one writer at a time and no transactions; Feast's own guide
recommends SQL in production (https://docs.feast.dev/how-to-guides/running-feast-in-production).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode

from immr.errors import FeaturesUnavailableError

SCHEMA = "immr_features"


@dataclass(frozen=True)
class SqlRegistry:
    """A schema of a database. The password comes from PGPASSWORD, so that no file holds it.

    Attributes:
        schema: Holds Feast's tables; created if missing.
        shown: Host, port and database, for messages.
        parameters: What libpq connects with, without a password.
    """

    schema: str
    shown: str
    parameters: Mapping[str, str] = field(repr=False)

    def yaml(self) -> str:
        """The lines of `feature_store.yaml` below `registry:`; needs neither Feast nor SQLAlchemy."""
        return f"""\
registry_type: sql
path: {json.dumps(self._address())}
cache_ttl_seconds: 60
serve_features_while_materializing: true
sqlalchemy_config_kwargs:  # a connection that the server has closed is replaced before it is used
  {{pool_size: 1, max_overflow: 4, pool_pre_ping: true}}
"""

    def _address(self) -> str:
        """The database as SQLAlchemy names it: `postgresql+psycopg://user@host:port/database?option=value`."""
        rest = dict(self.parameters)
        user, host, port, database = (rest.pop(name, "") for name in ("user", "host", "port", "dbname"))
        place = f"{f'{quote(user)}@' if user else ''}{host}{f':{port}' if port else ''}/{quote(database)}"
        return f"postgresql+psycopg://{place}?{urlencode(rest)}"

    def create_schema(self) -> None:
        """Create the schema if it is missing.

        Raises:
            FeaturesUnavailableError: The server does not answer, or refuses.
        """
        import psycopg
        from psycopg import sql

        try:
            with psycopg.connect("", **self.parameters) as connection:  # type: ignore[arg-type]
                connection.execute(
                    sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(self.schema))
                )
        except psycopg.Error as error:
            reason = str(error).splitlines()[0]
            raise FeaturesUnavailableError(
                f"Feast's registry at {self.shown} does not answer ({reason}): check "
                "IMMR_FEATURES_REGISTRY_URL and PGPASSWORD"
            ) from error
