"""Whether the service behind each IMMR_*_URL answers."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from functools import partial
from http.client import HTTPException
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit
from urllib.request import urlopen

from immr.deploy.inference_service import ServingShape
from immr.doctor.finding import Finding
from immr.errors import ContractError, SettingsError
from immr.launch.kubeflow.job_shape import JobShape
from immr.packaging.requirements import install_command
from immr.settings import query_of, without_credentials

_TIMEOUT_S = 3.0
_KAFKA_PORT = 9092


class _UnavailableError(Exception):
    """Why a service does not answer."""


def check_url(variable: str, url: str, password_file: Path | None = None) -> Finding:
    """Connect to the service at a URL, for at most a few seconds.

    Args:
        variable: Where the URL comes from, for the message.
        url: The URL.
        password_file: Holds the password of a Redis server.
    """
    shown = without_credentials(url).partition("?")[0]
    check = _CHECKS.get(urlsplit(url).scheme)
    if check is _redis:
        check = partial(_redis, password_file=password_file)
    try:
        if check is None:
            raise _UnavailableError(
                f"IMMR has no adapter for this scheme; it has {', '.join(sorted(_CHECKS))}"
            )
        return Finding(variable, True, f"{shown} ({check(url)})", "")
    except SettingsError as error:
        return Finding(variable, False, str(error), f"correct {variable}")
    except (_UnavailableError, OSError, ValueError) as error:
        remedy = f"start it or correct {variable}; unset it to use the embedded default"
        return Finding(variable, False, f"{shown}: {error}", remedy)


def _embedded(url: str) -> str:
    return "in this process"


def _file(url: str) -> str:
    return "exists" if Path(unquote(urlsplit(url).path)).exists() else "created on first use"


def _http(url: str) -> str:
    try:
        with urlopen(url, timeout=_TIMEOUT_S):
            return "answers"
    except HTTPError as error:
        with error:
            if error.code >= 500:
                raise _UnavailableError(f"answers {error.code}") from error
            return f"answers {error.code}"
    except URLError as error:
        raise _UnavailableError(str(error.reason)) from error
    except HTTPException as error:
        raise _UnavailableError(f"does not speak HTTP ({type(error).__name__})") from error


def _kafka(url: str) -> str:
    brokers = urlsplit(url).netloc.rpartition("@")[2].split(",")
    refused = []
    for broker in brokers:
        try:
            return f"{_connect(broker, _KAFKA_PORT)} accepts connections"
        except OSError as error:
            refused.append(f"{broker} {error}")
    raise _UnavailableError("; ".join(refused))


def _postgresql(url: str) -> str:
    import psycopg

    from immr.events.postgres.url import PostgresUrl

    parameters = dict(PostgresUrl.parse(url).parameters) | {"connect_timeout": str(round(_TIMEOUT_S))}
    try:
        with psycopg.connect("", **parameters) as connection:  # type: ignore[arg-type]
            return f"PostgreSQL {connection.info.server_version // 10000} lets {connection.info.user} in"
    except psycopg.Error as error:
        raise _UnavailableError(str(error).splitlines()[0]) from error


def _redis(url: str, password_file: Path | None = None) -> str:
    import redis

    from immr.features.redis_url import RedisUrl

    parsed = RedisUrl.parse(url)
    password = password_file.read_text().strip() if password_file else None
    waits = {"socket_timeout": _TIMEOUT_S, "socket_connect_timeout": _TIMEOUT_S}
    try:
        options: dict[str, Any] = {**parsed.options, **waits}
        with redis.Redis(parsed.host, parsed.port, password=password, **options) as client:
            client.ping()
    except redis.AuthenticationError as error:
        raise _UnavailableError(f"{error} (the password is read from IMMR_FEATURES_PASSWORD_FILE)") from error
    except redis.RedisError as error:
        raise _UnavailableError(str(error)) from error
    return "answers PING" + (" over TLS" if parsed.tls else "")


def _spark(url: str) -> str:
    if find_spec("pyspark") is None:
        raise _UnavailableError(f"pyspark is not installed: {install_command('spark')}")
    if not urlsplit(url).hostname:
        return "as spark-submit sets it up"
    return f"{_connect(urlsplit(url).netloc, 7077)} accepts connections"


def _object_store(url: str) -> str:
    from immr.data.sources.locations import Location

    try:
        Location.of(url).files()
    except ContractError as error:
        raise _UnavailableError(str(error)) from error
    return "can be listed"


def _connect(address: str, default_port: int) -> str:
    parts = urlsplit(f"//{address}")
    host, port = parts.hostname or "localhost", parts.port or default_port
    with socket.create_connection((host, port), timeout=_TIMEOUT_S):
        return f"{host}:{port}"


def _on_cluster(shape: type[JobShape] | type[ServingShape]) -> Callable[[str], str]:
    def check(url: str) -> str:
        shape.from_query(query_of(url))
        return "on a cluster: see `immr doctor --cluster`"

    return check


_CHECKS: Mapping[str, Callable[[str], str]] = {
    "file": _file,
    "edge": _file,
    "sqlite": _file,
    "duckdb": _embedded,
    "local": lambda url: "on this machine",
    "http": _http,
    "https": _http,
    "kafka": _kafka,
    "postgresql": _postgresql,
    "redis": _redis,
    "rediss": _redis,
    "spark": _spark,
    "s3": _object_store,
    "gs": _object_store,
    "kubeflow": _on_cluster(JobShape),
    "kserve": _on_cluster(ServingShape),
}
