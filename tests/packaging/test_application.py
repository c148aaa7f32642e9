from pathlib import Path

import pytest

from immr.errors import SettingsError
from immr.packaging.application import application_folder

ROOT = Path(__file__).parents[2]


def test_a_checkout_is_its_own_application(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IMMR_APP", raising=False)
    assert application_folder() == ROOT


def test_a_folder_without_the_service_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMMR_APP", str(tmp_path))
    with pytest.raises(SettingsError, match=r"has no serving/bento/service\.py: correct or unset it"):
        application_folder()
    service = tmp_path / "serving" / "bento" / "service.py"
    service.parent.mkdir(parents=True)
    service.touch()
    assert application_folder() == tmp_path
