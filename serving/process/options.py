"""How a service behaves on this machine: IMMR_* variables beside those that say where things are."""

from __future__ import annotations

from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict
from starlette.middleware import Middleware

from serving.process.logs import Format
from serving.wire.admission import RECEIVE_TIMEOUT_S
from serving.wire.bearer import BearerKeys, RequireBearer


class ServingOptions(BaseSettings):
    """Read once, at an entry point."""

    model_config = SettingsConfigDict(env_prefix="IMMR_", frozen=True)

    threads: int = 1
    """Of one encoding, in a Bento."""
    max_under_way: int | None = None
    """Searches at once; the rest gets 429. None: a Bento's 8 a core, a gateway's 256."""
    receive_timeout_s: float = RECEIVE_TIMEOUT_S
    """How long a request may take to get here."""
    bearer_keys_file: Path | None = None
    """Hashes of keys, one of which every caller needs; None: open to all."""
    cookie_secure: bool = False
    """Whether the visitor's cookie goes over HTTPS only: set it wherever shoppers come over HTTPS."""
    metrics_host: str = "0.0.0.0"
    metrics_port: int = 0
    """Where /metrics is, for a scraper on another machine; 0: beside the API."""
    log_format: Format = "text"

    def protection(self) -> list[Middleware]:
        """What stands before the application.

        Raises:
            SettingsError: the file of keys is wrong.
        """
        if self.bearer_keys_file is None:
            return []
        return [Middleware(RequireBearer, keys=BearerKeys(self.bearer_keys_file))]
