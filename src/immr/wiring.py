"""The bootstrap: `connect(settings)` turns URLs into adapters, once per process.

Entry points (the command line, KFP components, the demo, the gateway, a Bento, the page) connect once and hand
`Parts` to the use cases in `immr.loop`. Nothing else turns a URL into an adapter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote, urlsplit

from immr.errors import SettingsError
from immr.settings import Settings, query_of
from immr.storage import fingerprint

if TYPE_CHECKING:
    from immr.alerts.alert import Alerts
    from immr.deploy.deployer import Deployer
    from immr.events.event_log import EventLog
    from immr.features.feature_store import FeatureStore
    from immr.features.sql_registry import SqlRegistry
    from immr.index.vector_index import VectorIndex
    from immr.launch.launcher import Launcher
    from immr.registry.registry import Registry


def connect(settings: Settings) -> Parts:
    """The parts selected by these settings; each is opened when it is first used."""
    return Parts(settings)


@dataclass(frozen=True)
class Parts:
    """The adapters of one process, each built on first use. A context manager: leaving the block closes them.

    Attributes:
        settings: URLs and paths, for use cases that store files below `IMMR_HOME`.
    """

    settings: Settings

    @classmethod
    def of(cls, settings: Settings, **parts: Any) -> Self:
        """Parts of which some are supplied, such as fakes in a test: `Parts.of(settings, registry=fake)`."""
        result = cls(settings)
        unknown = set(parts) - set(_PARTS)
        if unknown:
            raise TypeError(f"unknown parts: {', '.join(sorted(unknown))}; known parts: {', '.join(_PARTS)}")
        result.__dict__.update(parts)
        return result

    @cached_property
    def registry(self) -> Registry:
        """MLflow: `sqlite:///` for one machine, `http(s)://` for a server."""
        from immr.registry.registry import Registry

        settings = self.settings
        _expect("IMMR_TRACKING_URL", settings.tracking_url, "sqlite", "http", "https")
        return Registry(
            settings.tracking_url, settings.model_name, decision_log=settings.home / "promotions.jsonl"
        )

    @cached_property
    def index(self) -> VectorIndex:
        """Qdrant: `file://` for local mode, `edge://` for its embedded engine, `http(s)://` for a server."""
        from immr.index.qdrant import QdrantIndex

        _expect("IMMR_INDEX_URL", self.settings.index_url, "file", "edge", "http", "https")
        file = self.settings.index_key_file
        key = _secret("IMMR_INDEX_KEY_FILE", file, "API key") if file else None
        return QdrantIndex(self.settings.index_url, api_key=key)

    @cached_property
    def features(self) -> FeatureStore:
        """Feast: `file://` for a repository with SQLite online, `redis://` or `rediss://` (TLS) for Redis."""
        from immr.features.feast_store import FeastFeatures

        settings = self.settings
        if _expect("IMMR_FEATURES_URL", settings.features_url, "file", "redis", "rediss") != "file":
            return self._features_on_redis()
        if settings.features_registry_url:
            raise SettingsError(
                "IMMR_FEATURES_REGISTRY_URL is for features on Redis: set IMMR_FEATURES_URL=redis://…, or unset it"
            )
        return FeastFeatures(_path("IMMR_FEATURES_URL", settings.features_url, "file"))

    def _features_on_redis(self) -> FeatureStore:
        from immr.features.definitions import on_redis
        from immr.features.feast_store import FeastFeatures
        from immr.features.redis_url import RedisUrl

        settings = self.settings
        url = RedisUrl.parse(settings.features_url)
        # Feast's registry describes one store, so each store gets a folder
        folder = settings.home / "features" / f"redis-{url.name}"
        file = settings.features_password_file
        password = _secret("IMMR_FEATURES_PASSWORD_FILE", file, "password") if file else ""
        registry = _feast_registry(settings.features_registry_url)
        yaml = on_redis(url, registry.yaml()) if registry else on_redis(url)
        if registry or url.tls or url.user:
            folder = folder.with_name(f"{folder.name}-{fingerprint.of_values(yaml)[:8]}")
        return FeastFeatures(folder, yaml, password=password, sql_registry=registry)

    @cached_property
    def events(self) -> EventLog:
        """Events: `sqlite:///` for one machine, `postgresql://` or `kafka://host:9092/topic` for many."""
        return self.open_events()

    def open_events(self) -> EventLog:
        """Another connection to the event log, for a caller that reopens it after errors; the caller closes it."""
        url = self.settings.events_url
        scheme = _expect("IMMR_EVENTS_URL", url, "sqlite", "postgresql", "kafka")
        if scheme == "kafka":
            from immr.events.kafka.log import KafkaEventLog

            return KafkaEventLog(url, self.settings.home / "events" / "kafka-view.db")
        if scheme == "postgresql":
            from immr.events.postgres.log import PostgresEventLog

            return PostgresEventLog(url)
        from immr.events.sqlite.log import SqliteEventLog

        return SqliteEventLog(_path("IMMR_EVENTS_URL", url, "sqlite"))

    @cached_property
    def launcher(self) -> Launcher:
        """Training: `local://` for torchrun here, `kubeflow://[<namespace>]?<JobShape>` for Kubeflow's."""
        url = self.settings.launch_url
        if _expect("IMMR_LAUNCH_URL", url, "local", "kubeflow") == "kubeflow":
            from immr.cluster import api
            from immr.launch.kubeflow.job_shape import JobShape
            from immr.launch.kubeflow.kubeflow_launcher import KubeflowLauncher

            namespace, query = _namespace(url)
            shape = JobShape.from_query({"image": self.settings.pipeline_image} | query)
            home = self.settings.home
            # pods send no alerts, and a job's specification is no place for a secret
            environment = self.settings.model_copy(update={"alert_url": ""}).environment()
            return KubeflowLauncher(api.connect(), namespace, shape, home, environment=environment)
        from immr.launch.local import LocalLauncher

        return LocalLauncher()

    @property
    def pixels_url(self) -> str:
        """Where training keeps decoded pictures: `file://`, `s3://`, `gs://`, or empty for the cache."""
        url = self.settings.pixels_url
        if url:
            _expect("IMMR_PIXELS_URL", url, "file", "s3", "gs")
        return url

    @cached_property
    def deployer(self) -> Deployer:
        """Serving: `local://` for `bentoml serve` here, `kserve://[<namespace>]?<ServingShape>` for KServe."""
        url = self.settings.deploy_url
        if _expect("IMMR_DEPLOY_URL", url, "local", "kserve") == "kserve":
            from immr.cluster import api
            from immr.deploy.inference_service import ServingShape
            from immr.deploy.kserve import KserveDeployer

            namespace, query = _namespace(url)
            shape = ServingShape.from_query(query)
            return KserveDeployer(api.connect(), namespace, shape, self.settings.bento_home)
        from immr.deploy.local import LocalDeployer

        return LocalDeployer(
            self.settings.deployments_dir,
            bento_home=self.settings.bento_home,
            environment=self.settings.serving_environment(),
        )

    @cached_property
    def alerts(self) -> Alerts:
        """Alerts: an `http(s)://` webhook; without a URL they wait for a process of this home that has one."""
        from immr.alerts.waiting_alerts import WaitingAlerts
        from immr.alerts.webhook import Webhook

        url = self.settings.alert_url
        if not url:
            return WaitingAlerts(self.settings.alerts_dir)
        _expect("IMMR_ALERT_URL", url, "https", "http")
        return Webhook(url, self.settings.alerts_dir)

    @cached_property
    def token_keys(self) -> Sequence[bytes]:
        """Keys that sign click tokens, cookies and pages: the first signs, all verify. Created on first use."""
        from immr.events.token_keys import KeyRing

        assert self.settings.token_key_file is not None, "settings fill it in"
        return KeyRing(self.settings.token_key_file)

    def close(self) -> None:
        """Close the parts that were opened; all are closed even if one of them fails to close."""
        with ExitStack() as closing:
            for part in self._opened().values():
                if (close := getattr(part, "close", None)) is not None:
                    closing.callback(close)

    def _opened(self) -> Mapping[str, Any]:
        return {name: self.__dict__.pop(name) for name in _PARTS if name in self.__dict__}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_PARTS = tuple(name for name, part in vars(Parts).items() if isinstance(part, cached_property))


def _secret(variable: str, file: Path, what: str) -> str:
    """The only line of a file, such as a mounted Secret."""
    try:
        secret = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{variable}={file} cannot be read ({error}): correct it") from error
    if not secret.isascii() or not secret.isprintable() or not secret:
        raise SettingsError(f"{variable}={file} holds no {what}: write the {what} into it, on one line")
    return secret


def _feast_registry(url: str) -> SqlRegistry | None:
    if not url:
        return None
    from immr.events.postgres.url import PostgresUrl
    from immr.features.sql_registry import SCHEMA, SqlRegistry

    _expect("IMMR_FEATURES_REGISTRY_URL", url, "postgresql")
    parsed = PostgresUrl.parse(url, "IMMR_FEATURES_REGISTRY_URL", SCHEMA)
    if "password" in parsed.parameters:
        raise SettingsError(
            "IMMR_FEATURES_REGISTRY_URL holds a password, which Feast would copy into feature_store.yaml: "
            "put it into the variable PGPASSWORD"
        )
    return SqlRegistry(parsed.schema, parsed.shown, parsed.parameters)


def _expect(variable: str, url: str, *schemes: str) -> str:
    scheme = urlsplit(url).scheme
    if scheme not in schemes:
        known = ", ".join(f"{name}://" for name in schemes)
        # the message does not quote the URL, which may contain a password
        raise SettingsError(f"{variable} begins with '{scheme}://', which has no adapter: use one of {known}")
    return scheme


def _namespace(url: str) -> tuple[str, dict[str, str]]:
    """The namespace in a URL (by default our own), and the URL's query."""
    from immr.cluster import api

    return urlsplit(url).hostname or api.own_namespace(), query_of(url)


def _path(variable: str, url: str, scheme: str) -> Path:
    _expect(variable, url, scheme)
    # an absolute path in `sqlite:////srv/events.db` has two slashes, which pathlib keeps
    return Path("/" + unquote(urlsplit(url).path).lstrip("/"))
