"""Kafka brokers in this process, as librdkafka brings them for tests; other clients reach them over TCP."""

from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import Producer


@contextmanager
def mock_cluster(brokers: int = 1) -> Iterator[str]:
    """Addresses of the brokers; topics are made when they are first asked for, with four partitions."""
    cluster = Producer({"test.mock.num.brokers": brokers, "log_level": 2})
    found = cluster.list_topics(timeout=30).brokers.values()
    yield ",".join(f"{broker.host}:{broker.port}" for broker in found)
    del cluster
