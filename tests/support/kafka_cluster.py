"""Kafka brokers in this process: librdkafka's mock cluster, which other processes reach over TCP."""

from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import Producer


@contextmanager
def mock_cluster(brokers: int = 1) -> Iterator[str]:
    """Yields the brokers' addresses; topics are created on first use, with four partitions."""
    cluster = Producer({"test.mock.num.brokers": brokers, "log_level": 2})
    found = cluster.list_topics(timeout=30).brokers.values()
    yield ",".join(f"{broker.host}:{broker.port}" for broker in found)
    del cluster
