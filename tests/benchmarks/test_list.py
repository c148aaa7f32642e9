"""The list that `python -m benchmarks` prints."""

from __future__ import annotations

from benchmarks.__main__ import benchmarks


def test_every_benchmark_is_listed_with_what_it_measures() -> None:
    found = benchmarks()
    assert {"benchmarks.drift", "benchmarks.shop", "benchmarks.shop.start"} <= set(found)
    assert [name for name, sentence in found.items() if not sentence.endswith((".", "?"))] == []
