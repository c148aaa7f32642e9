from pathlib import Path

from immr.doctor.local import Finding, examine
from immr.settings import Settings


def finding(settings: Settings, what: str) -> Finding:
    return next(found for found in examine(settings) if found.what == what)


def test_embedded_places_are_well_before_they_are_made(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "new")
    assert finding(settings, "IMMR_HOME").ok
    assert finding(settings, "IMMR_TRACKING_URL").found.endswith("(made on first use)")
    assert not (tmp_path / "new").exists()


def test_a_server_that_is_away_is_named_with_its_remedy(tmp_path: Path) -> None:
    found = finding(Settings(home=tmp_path, index_url="http://127.0.0.1:9"), "IMMR_INDEX_URL")
    assert not found.ok and "unset IMMR_INDEX_URL" in found.remedy


def test_a_mirror_without_the_data_is_said(tmp_path: Path) -> None:
    found = finding(Settings(home=tmp_path, data_mirror=tmp_path), "grocery photos")
    assert not found.ok and "IMMR_DATA_MIRROR" in found.remedy
