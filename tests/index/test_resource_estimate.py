"""What a collection needs grows with the items, and less of it with a server."""

from immr.index.resource_estimate import need
from immr.machine.capacity import GIB


def test_it_is_above_what_was_measured():
    """`benchmarks.shop`: 0.6 GiB without mapped files for 20,000 items, and 1.1 for 200,000."""
    for items, measured_gib in ((20_000, 0.6), (200_000, 1.1)):
        assert 1.5 < need(items, 256).memory_bytes / GIB / measured_gib < 2.5


def test_a_million_items():
    here, server = need(1_000_000, 256), need(1_000_000, 256, here=False)
    assert 5 < here.memory_bytes / GIB < 10
    assert server.memory_bytes == here.memory_bytes and server.disk_bytes < here.disk_bytes
    assert here.counts == "1,000,000 items"
    several = need(1_000_000, 256, further=1_000_000)
    assert here.memory_bytes < several.memory_bytes < 2 * here.memory_bytes
    assert here.disk_bytes < several.disk_bytes < 2 * here.disk_bytes
