"""Token keys: created once, agreed on by all processes, rotated without a restart."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from immr.errors import TokenError
from immr.events.token_keys import KeyRing, load_or_create_keys, rotate
from immr.events.tokens import verify
from tests.events.test_tokens import DAY, NOW, token


def test_keys_are_created_once_and_readable_by_their_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "events" / "token.key"
    [key] = load_or_create_keys(path)
    assert len(key) == 32
    assert load_or_create_keys(path) == [key]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["token.key"]


def test_processes_that_start_at_once_agree_on_the_keys(tmp_path: Path) -> None:
    path = tmp_path / "token.key"
    code = (
        "import sys, pathlib\nfrom immr.events.token_keys import load_or_create_keys\n"
        "sys.stdin.readline()\nprint(load_or_create_keys(pathlib.Path(sys.argv[1]))[0].hex())"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    keys = {process.communicate(timeout=30)[0].strip() for process in processes}
    assert keys == {path.read_text().strip()}


@pytest.mark.parametrize(
    "content", [b"short", b"", b"abcd\n" + b"00" * 32, b"no hex\n", b"00" * 32 + b"\n" + b"0g" * 32]
)
def test_a_broken_key_file_is_explained(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "token.key"
    path.write_bytes(content)
    with pytest.raises(TokenError, match="fewer than 32 bytes"):
        load_or_create_keys(path)


def test_a_key_file_that_cannot_be_created_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TokenError, match="IMMR_TOKEN_KEY_FILE"):
        load_or_create_keys(tmp_path / "file" / "below-a-file")


def test_raw_bytes_are_accepted_as_a_key(tmp_path: Path) -> None:
    (tmp_path / "token.key").write_bytes(bytes(range(200, 232)))
    assert load_or_create_keys(tmp_path / "token.key") == [bytes(range(200, 232))]


def test_after_a_rotation_the_new_key_signs_and_the_old_one_verifies(tmp_path: Path) -> None:
    path = tmp_path / "token.key"
    ring = KeyRing(path)
    [first] = ring
    of_first = token(key=ring[0], query_id="q-1")
    assert rotate(path) == 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert ring[0] != first and ring[1] == first  # without a restart
    of_second = token(key=ring[0], query_id="q-2")
    assert {verify(ring, signed, NOW, DAY).query_id for signed in (of_first, of_second)} == {"q-1", "q-2"}
    assert rotate(path) == 2
    assert verify(ring, of_second, NOW, DAY).query_id == "q-2"
    with pytest.raises(TokenError, match="not signed with a key of this service"):
        verify(ring, of_first, NOW, DAY)


def test_an_invalid_change_keeps_the_previous_keys(tmp_path: Path) -> None:
    path = tmp_path / "token.key"
    ring = KeyRing(path)
    [key] = ring
    path.write_text("nonsense\n")
    assert list(ring) == [key]
    path.unlink()
    assert list(ring) == [key]
