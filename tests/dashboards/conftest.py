"""Two versions that the page asks, in processes of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.upstream_process import upstream


@pytest.fixture(scope="module")
def upstreams() -> Iterator[list[str]]:
    """The addresses of champion and challenger; the challenger's answers are degraded."""
    with upstream("champion", "immr-1") as first, upstream("challenger", "immr-2", "--degraded") as second:
        yield [first, second]
