"""Whether the service behind each IMMR_*_URL answers."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import parse_qsl, unquote, urlsplit
from urllib.request import urlopen

from immr.deploy.inference_service import ServingShape
from immr.doctor.finding import Finding
from immr.errors import SettingsError
from immr.launch.job_shape import JobShape
from immr.settings import without_credentials

_TIMEOUT_S = 3.0
_KAFKA_PORT, _REDIS_PORT = 9092, 6379


class _UnavailableError(Exception):
    """Why a service cannot be reached."""


def check_url(variable: str, url: str) -> Finding:
    """Connect to the service at a URL, for at most a few seconds."""
    shown = without_credentials(url).partition("?")[0]
    check = _CHECKS.get(urlsplit(url).scheme)
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


def _redis(url: str) -> str:
    import redis

    try:
        with redis.Redis.from_url(
            url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S
        ) as client:
            client.ping()
    except redis.RedisError as error:
        raise _UnavailableError(str(error)) from error
    return "answers PING"


def _spark(url: str) -> str:
    if find_spec("pyspark") is None:
        raise _UnavailableError("pyspark is not installed: pip install -c constraints.txt 'immr[spark]'")
    if not urlsplit(url).hostname:
        return "as spark-submit sets it up"
    return f"{_connect(urlsplit(url).netloc, 7077)} accepts connections"


def _connect(address: str, default_port: int) -> str:
    parts = urlsplit(f"//{address}")
    host, port = parts.hostname or "localhost", parts.port or default_port
    with socket.create_connection((host, port), timeout=_TIMEOUT_S):
        return f"{host}:{port}"


def _on_cluster(shape: type[JobShape] | type[ServingShape]) -> Callable[[str], str]:
    def check(url: str) -> str:
        shape.from_query(dict(parse_qsl(urlsplit(url).query)))
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
    "spark": _spark,
    "kubeflow": _on_cluster(JobShape),
    "kserve": _on_cluster(ServingShape),
}
