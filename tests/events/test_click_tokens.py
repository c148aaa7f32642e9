"""Click tokens: honest ones pass, all others are refused with a sentence."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import json
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from immr.errors import TokenError
from immr.events.token_keys import KeyRing, load_or_create_keys, rotate
from immr.events.tokens import (
    ClickToken,
    Signer,
    event_id,
    to_click,
    verify,
)
from immr.types import Click

KEY = b"k" * 32
OTHER_KEY = b"o" * 32
NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def token(**changes) -> str:
    values = {
        "key": KEY,
        "query_id": "q-1",
        "item_id": "Packages/Milk|7",
        "position": 3,
        "variant": "challenger",
        "model_version": "immr-2",
        "issued": NOW,
    }
    values |= changes
    item_id, position = values.pop("item_id"), values.pop("position")
    return Signer(**values).sign(item_id, position)


def test_what_was_signed_comes_back() -> None:
    assert verify([KEY], token(), NOW, DAY) == ClickToken(
        "q-1", "Packages/Milk|7", 3, "challenger", "immr-2", NOW
    )


def test_token_is_safe_in_a_url() -> None:
    text = token(item_id="ä/?&= ☃")
    assert quote(text, safe="") == text
    assert verify([KEY], text, NOW, DAY).item_id == "ä/?&= ☃"


@settings(deadline=None)
@given(query_id=st.text(max_size=40), item_id=st.text(max_size=40), position=st.integers(1, 10_000))
def test_any_ids_come_back(query_id: str, item_id: str, position: int) -> None:
    text = token(query_id=query_id, item_id=item_id, position=position)
    said = verify([KEY], text, NOW, DAY)
    assert (said.query_id, said.item_id, said.position) == (query_id, item_id, position)


def test_rotation_accepts_the_old_key_until_it_is_gone() -> None:
    old = token(key=OTHER_KEY)
    assert verify([KEY, OTHER_KEY], old, NOW, DAY).query_id == "q-1"
    with pytest.raises(TokenError, match="not signed by our key"):
        verify([KEY], old, NOW, DAY)


def test_changed_payload_is_forged() -> None:
    payload, _, signature = token().partition(".")
    fields = json.loads(base64.urlsafe_b64decode(payload + "=="))
    fields[2] = "another item"
    forged = base64.urlsafe_b64encode(json.dumps(fields).encode()).rstrip(b"=").decode()
    with pytest.raises(TokenError, match="not signed by our key"):
        verify([KEY], f"{forged}.{signature}", NOW, DAY)


def test_no_single_character_can_be_changed() -> None:
    text = token()
    for place, character in enumerate(text):
        changed = text[:place] + ("A" if character != "A" else "B") + text[place + 1 :]
        with pytest.raises(TokenError):
            verify([KEY], changed, NOW, DAY)


@pytest.mark.parametrize(
    "text", ["", ".", "abc", "abc.", ".abc", "a.b.c", "ü.ü", "x" * 10_000 + "." + "y" * 43, "a b.c\n"]
)
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(TokenError, match="click token"):
        verify([KEY], text, NOW, DAY)


@settings(deadline=None)
@given(st.text(max_size=80))
def test_garbage_never_gets_another_error(text: str) -> None:
    with pytest.raises(TokenError):
        verify([KEY], text, NOW, DAY)


def test_age_limits() -> None:
    text = token()
    assert verify([KEY], text, NOW + DAY, DAY)
    assert verify([KEY], text, NOW - timedelta(seconds=59), DAY)
    with pytest.raises(TokenError, match=r"86401 s old, at most 86400 s"):
        verify([KEY], text, NOW + DAY + timedelta(seconds=1), DAY)
    with pytest.raises(TokenError, match="in the future: check the clocks"):
        verify([KEY], text, NOW - timedelta(minutes=2), DAY)


def test_times_need_a_zone() -> None:
    naive = NOW.replace(tzinfo=None)
    with pytest.raises(TokenError, match="no time zone"):
        token(issued=naive)
    with pytest.raises(TokenError, match="no time zone"):
        verify([KEY], token(), naive, DAY)


def test_keys_must_be_there_and_long_enough() -> None:
    with pytest.raises(TokenError, match="32 bytes"):
        token(key=b"short")
    with pytest.raises(TokenError, match="at least one key"):
        verify([], token(), NOW, DAY)


def test_signed_token_of_another_format_is_refused() -> None:
    payload = base64.urlsafe_b64encode(b'[2,"q"]').rstrip(b"=").decode()
    digest = hmac.new(KEY, payload.encode(), hashlib.sha256).digest()
    signature = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    with pytest.raises(TokenError, match="not in a form"):
        verify([KEY], f"{payload}.{signature}", NOW, DAY)


def test_event_id_is_of_the_impression_and_the_type() -> None:
    said = verify([KEY], token(), NOW, DAY)
    again = verify([OTHER_KEY], token(key=OTHER_KEY, issued=NOW + DAY), NOW + DAY, DAY)
    assert event_id(said, "click") == event_id(again, "click")
    assert event_id(said, "click") != event_id(said, "order")
    for change in ({"query_id": "q-2"}, {"item_id": "other"}, {"position": 4}):
        assert event_id(dataclasses.replace(said, **change), "click") != event_id(said, "click")


def test_to_click_carries_the_ids() -> None:
    said = verify([KEY], token(), NOW, DAY)
    assert to_click(said, "order", NOW) == Click(
        event_id(said, "order"), "order", "q-1", "Packages/Milk|7", NOW
    )


def test_keys_are_made_once_and_for_their_owner_only(tmp_path: Path) -> None:
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


def test_a_key_file_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TokenError, match="IMMR_TOKEN_KEY_FILE"):
        load_or_create_keys(tmp_path / "file" / "below-a-file")


def test_a_key_as_raw_bytes_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "token.key").write_bytes(bytes(range(200, 232)))
    assert load_or_create_keys(tmp_path / "token.key") == [bytes(range(200, 232))]


def test_after_a_rotation_the_new_key_signs_and_the_old_one_verifies(tmp_path: Path) -> None:
    path = tmp_path / "token.key"
    ring = KeyRing(path)
    [first] = ring
    of_first = token(key=ring[0], query_id="q-1")
    assert rotate(path) == 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert ring[0] != first and ring[1] == first  # a process that runs has seen it
    of_second = token(key=ring[0], query_id="q-2")
    assert {verify(ring, signed, NOW, DAY).query_id for signed in (of_first, of_second)} == {"q-1", "q-2"}
    assert rotate(path) == 2
    assert verify(ring, of_second, NOW, DAY).query_id == "q-2"
    with pytest.raises(TokenError, match="not signed by our key"):
        verify(ring, of_first, NOW, DAY)


def test_a_key_file_that_goes_wrong_keeps_the_keys_in_force(tmp_path: Path) -> None:
    path = tmp_path / "token.key"
    ring = KeyRing(path)
    [key] = ring
    path.write_text("nonsense\n")
    assert list(ring) == [key]
    path.unlink()
    assert list(ring) == [key]
