from pathlib import Path

import pytest

from immr.errors import PackagingError
from immr.packaging.version_file import VERSION_FILE, VersionFile
from immr.search.ranking import RankingRecipe

FILE = VersionFile("immr-3", 8, "p", "m", RankingRecipe())


def test_it_round_trips(tmp_path: Path) -> None:
    FILE.write(tmp_path)
    assert VersionFile.read(tmp_path) == FILE


@pytest.mark.parametrize("content", [None, "{", "{}", '{"id": 1}', '{"ranking": {"no_such": 1}}'])
def test_a_broken_file_is_an_error_with_a_remedy(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / VERSION_FILE).write_text(content)
    with pytest.raises(PackagingError, match="run `immr package` again"):
        VersionFile.read(tmp_path)
