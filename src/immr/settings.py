"""Settings: URLs and paths, read from IMMR_* variables at an entry point.

By default everything is embedded: files below `IMMR_HOME` (`.immr`), and no servers.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import parse_qsl, quote, urlsplit

from pydantic import (
    BeforeValidator,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from immr import __version__
from immr.errors import SettingsError
from immr.storage import fingerprint

_HOME = Path(".immr")
_WEB = ("http", "https")
_HOST_AND_PORT = r"(\[[\da-fA-F:.]+\]|[^:]+):\d{1,5}"
_LAST_PORT = 65_535
_SHORTEST_SECRET = 3
"""Pieces of a password that are shorter tell nothing, and are parts of words."""


def _path(value: Any) -> Path | None:
    """A path of a variable in a Compose or unit file, which does not expand ~, and leaves it blank for none.

    Absolute, because the processes that get it have other working folders.
    """
    return Path(value).expanduser().absolute() if str(value or "").strip() else None


OptionalPath = Annotated[Path | None, BeforeValidator(_path)]


class Settings(BaseSettings):
    """URLs and paths. An empty URL selects the embedded default below `home`.

    Raises:
        SettingsError: A variable has the wrong type, or `home` contains characters that MLflow misreads.
    """

    model_config = SettingsConfigDict(env_prefix="IMMR_", frozen=True)

    home: Path = _HOME
    data_mirror: OptionalPath = None
    engine_url: str = "duckdb://"
    tracking_url: str = ""
    index_url: str = ""
    index_key_file: OptionalPath = None  # holds the API key of a Qdrant server
    features_url: str = ""
    features_password_file: OptionalPath = None  # holds the password of a Redis server
    features_registry_url: str = ""  # postgresql://… for Feast's SQL registry; empty: a file
    events_url: str = ""
    launch_url: str = "local://"
    pixels_url: str = ""  # decoded training pictures: file://, s3://, gs://; empty: below cache_dir
    deploy_url: str = "local://"
    pipeline_image: str = f"immr/pipeline-python:{__version__}"  # of training pods; compiled pipelines set it
    token_key_file: OptionalPath = None
    model_name: str = "immr"
    context: str = "country,device,channel"  # dimensions of a search's context, see experiment.context
    challengers: int = Field(default=1, ge=1, le=9)  # most that a test has, each with a Bento of its own
    min_test_days: float = Field(
        default=7.0, ge=0, allow_inf_nan=False
    )  # of a test, before it promotes or keeps
    too_large: Literal["refuse", "warn"] = "refuse"  # a step that needs more memory or disk than is free
    keep_photos: bool = False
    keep_photos_days: float = Field(default=30.0, gt=0)  # kept photos are deleted after this
    alert_url: str = ""  # of a webhook, a secret; empty: no alerts
    tracking_link: str = ""  # URL of MLflow in a browser, for links in the reports of a pipeline run
    page_link: str = ""
    api_link: str = ""  # URL of the gateway in a browser, for links on the page
    grafana_link: str = ""
    docs_link: str = ""
    page_key_file: OptionalPath = None  # holds the key that runs commands from the page; None: nobody can
    pipelines_link: str = ""  # URL of Kubeflow Pipelines in a browser, for the versions' descriptions

    @field_validator("home", mode="before")
    @classmethod
    def _folder(cls, value: Any) -> Any:
        if re.match(r"[A-Za-z][\w+.-]+:/", str(value)):
            raise SettingsError(
                f"IMMR_HOME={without_credentials(str(value))} is a URL: name a folder of this machine"
            )
        return _path(value) or _HOME

    @model_validator(mode="wrap")
    @classmethod
    def _named(cls, values: Any, read: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return read(values)
        except ValidationError as error:
            wrong = error.errors()[0]
            name = "IMMR_" + "_".join(str(part) for part in wrong["loc"]).upper()
            raise SettingsError(
                f"{name}={wrong['input']!r}: {wrong['msg']}; correct it or unset it"
            ) from error

    @model_validator(mode="after")
    def _fill_embedded(self) -> Self:
        home = self.home.absolute()
        if re.search(r"\?|%[0-9a-fA-F]{2}", str(home)):
            raise SettingsError(
                f"IMMR_HOME={home} contains '?' or a percent escape, which MLflow misreads: choose another folder"
            )
        for name, value in self:
            if name.endswith("_url"):
                _check_url(f"IMMR_{name.upper()}", value)
        encoded = quote(str(home))
        embedded: dict[str, object] = {
            "home": home,
            # not encoded: MLflow creates the folder of a SQLite URL without decoding it
            "tracking_url": self.tracking_url or f"sqlite:///{home}/mlflow/mlflow.db",
            "index_url": self.index_url or f"edge://{encoded}/index",
            "features_url": self.features_url or f"file://{encoded}/features",
            "events_url": self.events_url or f"sqlite:///{encoded}/events/events.db",
            "token_key_file": self.token_key_file or home / "events" / "token.key",
        }
        for name, value in embedded.items():
            object.__setattr__(self, name, value)
        return self

    @property
    def cache_dir(self) -> Path:
        """Image features and downloads; safe to delete."""
        return self.home / "cache"

    @property
    def work_dir(self) -> Path:
        """Training sets, checkpoints and version files, each in a folder named after its key."""
        return self.home / "work"

    @property
    def bento_home(self) -> Path:
        """BentoML's own store."""
        return self.home / "bentoml"

    @property
    def photos_dir(self) -> Path:
        """Query photos by content hash, if `keep_photos` is set."""
        return self.home / "photos"

    @property
    def pictures_dir(self) -> Path:
        """Pictures fetched from http(s) URLs, by content hash; training sets refer to them."""
        return self.home / "pictures"

    @property
    def waiting_events_dir(self) -> Path:
        """Events that wait for delivery to the event log, in one folder per process."""
        return self.home / "events" / "waiting"

    @property
    def experiment_file(self) -> Path:
        """The running experiment: salt, variants, weights, URLs."""
        return self.home / "experiment" / "experiment.json"

    @property
    def queue_file(self) -> Path:
        """Versions that start as challenger when the running test has ended."""
        return self.home / "experiment" / "queue.json"

    @property
    def history_file(self) -> Path:
        """What happened to each test."""
        return self.home / "experiment" / "history.jsonl"

    @property
    def test_reports(self) -> Path:
        """The reports of ended tests."""
        return self.home / "experiment" / "reports"

    @property
    def deploys_here(self) -> bool:
        """Whether versions serve on this machine."""
        return self.deploy_url.startswith("local:")

    @property
    def home_id(self) -> str:
        """Tells homes apart, so that a copy never takes the first home's processes for its own."""
        return fingerprint.of_values(self.home.resolve())[:12]

    @property
    def deployments_dir(self) -> Path:
        """Which versions serve on this machine, and their logs."""
        return self.home / "deployments"

    @property
    def alerts_dir(self) -> Path:
        """Alerts that wait for delivery."""
        return self.home / "alerts"

    @property
    def drift_file(self) -> Path:
        """The newest drift report."""
        return self.home / "drift" / "latest.json"

    def environment(self) -> dict[str, str]:
        """These settings as IMMR_* variables, for a child process."""
        return {
            f"IMMR_{name.upper()}": str(value)
            for name, value in self.model_dump().items()
            if value is not None
        }

    def serving_environment(self) -> dict[str, str]:
        """`environment` with the files of serving's own variables, for a process with another working folder."""
        files = {
            name: str(_path(value))
            for name, value in os.environ.items()
            if re.fullmatch(r"IMMR_\w+_FILE", name) and value.strip()
        }
        return files | self.environment()


def _check_url(variable: str, url: str) -> None:
    try:
        urlsplit(url)
    except ValueError as error:
        raise SettingsError(
            f"{variable} is not a URL ({error}): write special characters of a password as percent escapes"
        ) from error
    hosts = urlsplit(url).netloc.rpartition("@")[2].split(",")
    if any(int(port[1]) > _LAST_PORT for host in hosts if (port := re.search(r":(\d{1,9})$", host))):
        raise SettingsError(
            f"{variable} has a port above {_LAST_PORT}: correct it, or write special characters of a password as "
            "percent escapes"
        )


def query_of(url: str, keep_blank_values: bool = False) -> dict[str, str]:
    """What a URL's query sets. A plus sign stays one, as in a password; it is a space only in HTML forms."""
    query = url.partition("?")[2].partition("#")[0]
    return dict(parse_qsl(query.replace("+", "%2B"), keep_blank_values=keep_blank_values))


def without_credentials(url: str) -> str:
    """A URL for messages: without user and password, and without secrets in its query."""
    url = url.replace(_user_and_password(url), "", 1)
    return re.sub(r"(?i)([?&][^=&#]*(?:password|secret|token|key|oauthbearer)[^=&#]*=)[^&#]*", r"\1…", url)


def reason_without_credentials(error: Exception, url: str) -> str:
    """A library's message about a URL, in one line: it may quote the URL, or a piece of its password."""
    secret = _user_and_password(url)
    text = (str(error).strip() or type(error).__name__).replace(url, without_credentials(url))
    text = text.replace(secret, "")
    password = secret.partition(":")[2]  # a user's name is often also that of a database or a host
    for piece in re.split(r"[:/?#@\[\]]", password):
        text = text.replace(piece, "…") if len(piece) >= _SHORTEST_SECRET else text
    return " ".join(text.split())


def _user_and_password(url: str) -> str:
    """What is between `://` and the host, with the @; empty without any.

    A password may have signs that should be percent-encoded (`/`, `?`, `#`), so it reaches to the last @ unless what
    is before these signs is a host, or on the web a host and its port. Elsewhere `a:1` may be a host and its port or
    a user and the start of a password: then a password never reaches into the query.
    """
    scheme, _, rest = url.partition("://")
    start = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in start:
        return rest[: start.rindex("@") + 1]
    if ":" not in start or (scheme in _WEB and re.fullmatch(r"[^:]*:\d*", start)):
        return ""
    if all(re.fullmatch(_HOST_AND_PORT, host) for host in start.split(",")):
        rest = re.split(r"\?[^=@/?#]+=", rest, maxsplit=1)[0]
    return rest[: rest.rfind("@") + 1]
