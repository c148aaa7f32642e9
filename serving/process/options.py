"""Options of a serving process: the IMMR_* variables other than URLs and folders of `immr.settings`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from starlette.middleware import Middleware

from immr.errors import SettingsError
from immr.machine.log_lines import Format
from serving.wire.admission import RECEIVE_TIMEOUT_S
from serving.wire.bearer import BearerKeys, RequireBearer
from serving.wire.origins import NameOtherOrigins, cors


class ServingOptions(BaseSettings):
    """Read once, at an entry point.

    Raises:
        SettingsError: a variable has an invalid value.
    """

    model_config = SettingsConfigDict(env_prefix="IMMR_", frozen=True)

    threads: int = 1
    """Threads per encoding, in a Bento."""
    max_in_progress: int | None = None
    """Searches in progress; more are refused with 429. None: 8 per core in a Bento, 256 in a gateway."""
    image_urls: bool = False
    """Whether a Bento fetches photos that searches name by `image_url`, from public addresses."""
    receive_timeout_s: float = RECEIVE_TIMEOUT_S
    """How long a request may take to arrive."""
    bearer_keys_file: Path | None = None
    """Hashes of the callers' keys; None: open to all."""
    cookie_secure: bool = False
    """Whether the visitor's cookie is for HTTPS only: set it wherever shoppers use HTTPS."""
    cors_origins: str = ""
    """Origins of pages that may call the API, separated by commas, or *; empty: only its own."""
    metrics_host: str = "0.0.0.0"
    metrics_port: int = 0
    """Separate port for /metrics, reachable from other machines; 0: on the port of the API."""
    log_format: Format = "text"

    @model_validator(mode="wrap")
    @classmethod
    def _name_the_variable(cls, values: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            name = "IMMR_" + "_".join(str(part) for part in first["loc"]).upper()
            raise SettingsError(f"{name}={first['input']!r}: {first['msg']}. Correct or unset it.") from error

    def protection(self) -> list[Middleware]:
        """The middleware in front of the application, outermost last.

        Raises:
            SettingsError: the file of keys, or an origin, is invalid.
        """
        protection = []
        if self.bearer_keys_file is not None:
            protection.append(Middleware(RequireBearer, keys=BearerKeys(self.bearer_keys_file)))
        if self.cors_origins:  # outermost, because a browser's preflight request has no key
            protection.append(cors(self.cors_origins))
        protection.append(Middleware(NameOtherOrigins, origins=self.cors_origins))
        return protection
