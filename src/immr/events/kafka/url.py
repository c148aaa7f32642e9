"""Kafka URLs: brokers, topic and librdkafka settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from immr.errors import SettingsError
from immr.settings import query_of

_EXAMPLE = "kafka://host:9092/immr-events"


@dataclass(frozen=True)
class KafkaUrl:
    """`kafka://host:9092,host:9092/topic?security.protocol=SSL`; the query holds librdkafka settings.

    The value of a setting whose name ends in `.file` is read from that file, which keeps secrets out of URLs.
    """

    topic: str
    config: Mapping[str, str] = field(repr=False)  # may hold secrets

    @classmethod
    def parse(cls, url: str) -> KafkaUrl:
        """Parse a URL.

        Raises:
            SettingsError: The URL lacks a broker or a topic, or a `.file` cannot be read. The message never
                quotes the URL, which may hold a password anywhere.
        """
        try:
            parts = urlsplit(url)
        except ValueError:
            raise SettingsError(f"IMMR_EVENTS_URL is not a valid URL: use {_EXAMPLE}") from None
        if "@" in parts.netloc:
            raise SettingsError(
                "the Kafka URL has credentials before its broker: pass them as settings, "
                "?sasl.username=…&sasl.password.file=…"
            )
        topic = parts.path.strip("/")
        if parts.scheme != "kafka" or not parts.netloc or not topic or "/" in topic:
            raise SettingsError(f"the Kafka URL lacks a broker or a topic: use {_EXAMPLE}")
        config = {"bootstrap.servers": parts.netloc}
        for name, value in query_of(url).items():
            if name.endswith(".file"):
                config[name.removesuffix(".file")] = _read(name, value)
            else:
                config[name] = value
        return cls(topic, config)


def _read(name: str, path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"the file that {name} of the Kafka URL names cannot be read: {error}") from error
