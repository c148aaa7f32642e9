"""What a collection needs grows with the items, and less of it with a server."""

from immr.index.need import need
from immr.machine.capacity import GIB


def test_a_million_items():
    here, server = need(1_000_000, 256), need(1_000_000, 256, here=False)
    assert 10 < here.memory_bytes / GIB < 20
    assert server.memory_bytes < here.memory_bytes and server.disk_bytes == 0
    assert here.counts == "1,000,000 items"
