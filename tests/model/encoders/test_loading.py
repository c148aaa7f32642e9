"""Encoders are loaded on each call, or kept for the next one."""

from pathlib import Path

import pytest

from immr.model.encoders import loading
from immr.model.encoders.loading import Loading
from tests.support.tiny_training_set import MODEL


def test_kept_encoders_are_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "frozen_encoder", lambda *_: object())
    kept, other = Loading.kept(), Loading.kept()
    given = (MODEL, Path("cache"), 1, None)
    assert kept.image(*given) is kept.image(*given)
    assert kept.image(*given) is not kept.image(MODEL, Path("cache"), 1, Path("tuned.pt"))
    assert kept.image(*given) is not other.image(*given)
