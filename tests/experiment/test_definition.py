"""What a test may be, and its parts."""

from __future__ import annotations

import dataclasses

import pytest

from immr.errors import ExperimentError
from immr.experiment.definition import Experiment, Variant

CHAMPION = Variant("champion", "http://127.0.0.1:3001", "immr-1", 0.5)
CHALLENGER = Variant("challenger", "http://127.0.0.1:3002", "immr-2", 0.25)
SECOND = Variant("challenger-2", "http://127.0.0.1:3003", "immr-3", 0.25, ended=True)


def test_a_challenger_that_left_is_one_but_does_not_remain() -> None:
    experiment = Experiment("test", "salt", (CHAMPION, CHALLENGER, SECOND))
    assert experiment.champion == CHAMPION
    assert experiment.challengers == (CHALLENGER, SECOND)
    assert experiment.remaining == (CHALLENGER,)
    assert experiment.challenger == experiment.variant("challenger") == CHALLENGER
    with pytest.raises(ExperimentError, match="has no variant 'challenger-3'"):
        experiment.variant("challenger-3")


@pytest.mark.parametrize(
    "url",
    [
        "http://[",
        "http://[::1",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:0",
        "http://127.0.0.1:abc",
        "http://127.0.0.1:-1",
        "http://a..b:3001",
        f"http://{'a' * 64}.example",
        "http://ann:secret@127.0.0.1:3001",
        "http://127.0.0.1:3001/?version=1",
        "http://127.0.0.1:3001/#top",
        "http://127.0.0.1:3001/a b",
        "http://127.0.0.1:3001\n",
        "http://127.0.0.1\\x",
        "ftp://127.0.0.1:3001",
    ],
)
def test_a_url_that_cannot_take_requests_is_refused(url: str) -> None:
    with pytest.raises(ExperimentError, match="give an address like"):
        dataclasses.replace(CHAMPION, url=url)


@pytest.mark.parametrize("url", ["http://[::1]:3001", "https://a.example/b/", "http://immr-3.shop.svc:80"])
def test_other_urls_are_fine(url: str) -> None:
    assert dataclasses.replace(CHAMPION, url=url).url == url
