"""Requests to our API do not pass BentoML's middleware; all others do."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of BentoML's import
@pytest.mark.parametrize(
    ("scope", "answers"),
    [
        ({"type": "http", "path": "/v1/search"}, "ours"),
        ({"type": "http", "path": "/v1/items/a/image"}, "ours"),
        ({"type": "http", "path": "/v10"}, "bentoml"),
        ({"type": "http", "path": "/readyz"}, "bentoml"),
        ({"type": "lifespan"}, "bentoml"),
    ],
)
def test_only_our_api_is_served_directly(scope: dict[str, Any], answers: str) -> None:
    from serving.bento.service import shortened

    called = []

    def named(name: str) -> Any:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            called.append(name)

        return app

    asyncio.run(shortened(named("bentoml"), named("ours"))(scope, None, None))  # type: ignore[arg-type]
    assert called == [answers]
