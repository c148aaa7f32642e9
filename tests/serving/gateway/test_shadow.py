"""The queue of shadow mode: its memory is bounded."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from serving.gateway import shadow
from serving.gateway.shadow import Shadow
from serving.process.metrics import Metrics


class Answers:
    """Variants whose searches all fail."""

    def admit(self, variant: Any) -> object:
        return object()

    async def search(self, *arguments: Any) -> None:
        return None


def test_copies_of_large_searches_are_left_out_until_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadow, "MAX_WAITING_BYTES", 10)
    metrics, challenger, answers = Metrics(), SimpleNamespace(), Answers()
    form: Any = SimpleNamespace(body=b"12345")

    def count(outcome: str) -> float:
        return metrics.registry.get_sample_value("immr_shadow_total", {"outcome": outcome}) or 0.0

    async def asked(copies: Shadow, wanted: int) -> None:
        async with asyncio.timeout(60):
            while count("failed") < wanted:
                await asyncio.sleep(0.01)

    async def run() -> None:
        copies = Shadow(answers, metrics)  # type: ignore[arg-type]
        for number in range(4):
            copies.copy(challenger, form, f"q{number}", [])  # type: ignore[arg-type]
        assert count("left_out") == 2
        await copies.start()
        await asked(copies, 2)
        copies.copy(challenger, form, "q4", [])  # type: ignore[arg-type]
        await asked(copies, 3)
        await copies.stop()

    asyncio.run(run())
    assert count("left_out") == 2
