"""Kafka brokers: librdkafka's mock cluster in a process of its own, because its end has crashed its process.

Usage: python -m tests.support.kafka_cluster BROKERS prints their addresses, and runs until its stdin closes.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import Producer


@contextmanager
def mock_cluster(brokers: int = 1) -> Iterator[str]:
    """Yields the brokers' addresses; topics are created on first use, with four partitions."""
    command = [sys.executable, "-m", "tests.support.kafka_cluster", str(brokers)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            addresses = process.stdout.readline().strip()
            assert addresses, "the mock cluster has no brokers"
            yield addresses
        finally:
            process.kill()


if __name__ == "__main__":
    cluster = Producer({"test.mock.num.brokers": int(sys.argv[1]), "log_level": 2})
    found = cluster.list_topics(timeout=30).brokers.values()
    print(",".join(f"{broker.host}:{broker.port}" for broker in found), flush=True)
    sys.stdin.read()
    os._exit(0)
