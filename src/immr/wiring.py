"""The only place where a URL becomes an adapter. Nothing else knows which one it talks to."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

from immr.errors import SettingsError
from immr.settings import Settings

if TYPE_CHECKING:
    from immr.deploy.deployer import Deployer
    from immr.events.event_log import EventLog
    from immr.features.feature_store import FeatureStore
    from immr.index.vector_index import VectorIndex
    from immr.launch.launcher import Launcher
    from immr.registry.versions import Registry


def index(settings: Settings) -> VectorIndex:
    """Qdrant: `file://` for local mode, `edge://` for its embedded engine, `http(s)://` for a server."""
    from immr.index.qdrant import QdrantIndex

    _expect("IMMR_INDEX_URL", settings.index_url, "file", "edge", "http", "https")
    key_file = settings.index_key_file
    return QdrantIndex(settings.index_url, api_key=_key(key_file) if key_file else None)


def _key(file: Path) -> str:
    try:
        key = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"IMMR_INDEX_KEY_FILE={file} cannot be read ({error}): correct it") from error
    if not key.isascii() or not key.isprintable() or not key:
        raise SettingsError(f"IMMR_INDEX_KEY_FILE={file} holds no API key: put one line into it, the key")
    return key


def features(settings: Settings) -> FeatureStore:
    """Feast: `file://` for a repository with SQLite online, `redis://host:port[/database]` for Redis."""
    from immr.features.definitions import on_redis
    from immr.features.feast_store import FeastFeatures

    if _expect("IMMR_FEATURES_URL", settings.features_url, "file", "redis") == "redis":
        host, port, database = _redis(settings.features_url)
        # a folder for each store: what Feast notes in it is true of one only
        folder = settings.home / "features" / f"redis-{host}-{port}-{database}"
        return FeastFeatures(folder, on_redis(host, port, database))
    return FeastFeatures(_path("IMMR_FEATURES_URL", settings.features_url, "file"))


def _redis(url: str) -> tuple[str, int, int]:
    found = re.fullmatch(r"redis://([\w.-]+)(?::(\d+))?(?:/(\d+))?", url)
    if found is None:
        raise SettingsError(
            "IMMR_FEATURES_URL is not redis://host:port[/database]: correct it; for a "
            "password or a cluster name a Feast repository (file://…) with a feature_store.yaml of your own"
        )
    host, port, database = found.groups()
    return host, int(port or 6379), int(database or 0)


def event_log(settings: Settings) -> EventLog:
    """Events: `sqlite:///` for one machine, `kafka://host:9092/topic` for many."""
    if _expect("IMMR_EVENTS_URL", settings.events_url, "sqlite", "kafka") == "kafka":
        from immr.events.kafka import KafkaEventLog

        return KafkaEventLog(settings.events_url, settings.home / "events" / "kafka-view.db")
    from immr.events.sqlite import SqliteEventLog

    return SqliteEventLog(_path("IMMR_EVENTS_URL", settings.events_url, "sqlite"))


def registry(settings: Settings) -> Registry:
    """MLflow: `sqlite:///` for one machine, `http(s)://` for a server."""
    from immr.registry.versions import Registry

    _expect("IMMR_TRACKING_URL", settings.tracking_url, "sqlite", "http", "https")
    return Registry(
        settings.tracking_url, settings.model_name, promotion_log=settings.home / "promotions.jsonl"
    )


def launcher(settings: Settings) -> Launcher:
    """Training: `local://` for torchrun here, `kubeflow://[<namespace>]?<JobShape>` for PyTorchJobs."""
    if _expect("IMMR_LAUNCH_URL", settings.launch_url, "local", "kubeflow") == "kubeflow":
        from immr.cluster import api as cluster
        from immr.launch.job_shape import JobShape
        from immr.launch.kubeflow import KubeflowLauncher

        namespace, query = _namespace(settings.launch_url)
        shape = JobShape.from_query(query)
        return KubeflowLauncher(
            cluster.connect(), namespace, shape, settings.home, environment=settings.environment()
        )
    from immr.launch.local import LocalLauncher

    return LocalLauncher()


def deployer(settings: Settings) -> Deployer:
    """Serving: `local://` for `bentoml serve` here, `kserve://[<namespace>]?<ServingShape>` for KServe."""
    if _expect("IMMR_DEPLOY_URL", settings.deploy_url, "local", "kserve") == "kserve":
        from immr.cluster import api as cluster
        from immr.deploy.inference_service import ServingShape
        from immr.deploy.kserve import KserveDeployer

        namespace, query = _namespace(settings.deploy_url)
        return KserveDeployer(cluster.connect(), namespace, ServingShape.from_query(query))
    from immr.deploy.local import LocalDeployer

    return LocalDeployer(
        settings.home / "deployments",
        bento_home=settings.bento_home,
        environment=settings.environment(),
    )


def token_keys(settings: Settings) -> Sequence[bytes]:
    """Keys of click tokens: the first signs, all verify. Made on first use, read again when they change."""
    from immr.events.token_keys import KeyRing

    assert settings.token_key_file is not None
    return KeyRing(settings.token_key_file)


def service_folder() -> Path:
    """The application's `serving/` folder, which a Bento is built from: $IMMR_APP or the working folder."""
    folder = Path(os.environ.get("IMMR_APP", ".")).absolute() / "serving"
    if not (folder / "bento" / "service.py").is_file():
        raise SettingsError(
            f"no serving/bento/service.py in {folder.parent}: run from IMMR's folder, or set IMMR_APP to it"
        )
    return folder


def _expect(variable: str, url: str, *schemes: str) -> str:
    scheme = urlsplit(url).scheme
    if scheme not in schemes:
        known = ", ".join(f"{name}://" for name in schemes)
        # not the URL: it may hold a password
        raise SettingsError(f"{variable} begins with '{scheme}://', which has no adapter: take {known}")
    return scheme


def _namespace(url: str) -> tuple[str, dict[str, str]]:
    """The namespace that a URL names, or our own; and its query."""
    from immr.cluster import api as cluster

    parts = urlsplit(url)
    return parts.hostname or cluster.own_namespace(), dict(parse_qsl(parts.query))


def _path(variable: str, url: str, scheme: str) -> Path:
    _expect(variable, url, scheme)
    return Path(unquote(urlsplit(url).path))
