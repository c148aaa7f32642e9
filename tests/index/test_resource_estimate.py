"""What a collection needs grows with the items, and less of it with a server."""

from immr.index.resource_estimate import need
from immr.machine.capacity import GIB


def test_a_million_items():
    here, server = need(1_000_000, 256), need(1_000_000, 256, here=False)
    assert 10 < here.memory_bytes / GIB < 20
    assert server.memory_bytes < here.memory_bytes and server.disk_bytes == 0
    assert here.counts == "1,000,000 items"
    several = need(1_000_000, 256, further=1_000_000)
    assert here.memory_bytes < several.memory_bytes < 2 * here.memory_bytes
    assert here.disk_bytes < several.disk_bytes < 2 * here.disk_bytes
