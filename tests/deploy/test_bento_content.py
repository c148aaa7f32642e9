from pathlib import Path

import pytest

from immr.deploy.bento_content import built_content


@pytest.mark.parametrize(
    ("described", "content"),
    [
        ("labels:\n  immr.content: abc\n", "abc"),
        ("labels: {}\n", None),
        ("name: immr-search\n", None),
        ("", None),
    ],
)
def test_a_bento_without_the_label_has_no_known_content(
    tmp_path: Path, described: str, content: str | None
) -> None:
    folder = tmp_path / "bentos" / "immr-search" / "immr-1"
    folder.mkdir(parents=True)
    assert built_content(tmp_path, "immr-search:immr-1") is None
    (folder / "bento.yaml").write_text(described)
    assert built_content(tmp_path, "immr-search:immr-1") == content
