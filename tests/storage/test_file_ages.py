"""Old runs are deleted by several processes at once."""

from __future__ import annotations

import os
from pathlib import Path

from immr.storage.file_ages import oldest_first


def test_files_come_by_age_without_those_that_are_gone(tmp_path: Path) -> None:
    for age, name in enumerate(("c", "a", "b")):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (age, age))
    found = oldest_first([tmp_path / name for name in ("a", "b", "c", "gone")])
    assert [path.name for path in found] == ["c", "a", "b"]
