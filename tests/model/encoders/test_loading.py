"""Encoders are loaded on each call, or kept for the next one."""

from pathlib import Path

import numpy as np
import pytest
import torch

from immr.model.class_photos import ClassPhotos
from immr.model.encoders import loading
from immr.model.encoders.loading import FRESH, Loading
from immr.model.towers import Towers
from tests.support.tiny_training_set import MODEL


def test_kept_encoders_are_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "frozen_encoder", lambda *_: object())
    kept, other = Loading.kept(), Loading.kept()
    given = (MODEL, Path("cache"), 1, None)
    assert kept.image(*given) is kept.image(*given)
    assert kept.image(*given) is not kept.image(MODEL, Path("cache"), 1, Path("tuned.pt"))
    assert kept.image(*given) is not other.image(*given)


def test_kept_towers_are_read_once(tmp_path: Path) -> None:
    file = tmp_path / "towers.pt"
    torch.save(Towers(MODEL).state_dict(), file)
    kept = Loading.kept()
    assert kept.towers(MODEL, file) is kept.towers(MODEL, file)
    assert FRESH.towers(MODEL, file) is not FRESH.towers(MODEL, file)


def test_kept_class_photos_are_read_once(tmp_path: Path) -> None:
    ClassPhotos({"a": 0}, [1], np.ones((1, 2), np.float32)).write(tmp_path)
    kept = Loading.kept()
    assert kept.class_photos(tmp_path) is kept.class_photos(tmp_path)
    assert FRESH.class_photos(tmp_path / "none") is None
