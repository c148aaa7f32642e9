"""Genuine click tokens are accepted; all others are refused with a reason."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from immr.errors import TokenError
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


def test_a_signed_token_is_read_back() -> None:
    assert verify([KEY], token(), NOW, DAY) == ClickToken(
        "q-1", "Packages/Milk|7", 3, "challenger", "immr-2", NOW
    )


def test_token_is_safe_in_a_url() -> None:
    text = token(item_id="ä/?&= ☃")
    assert quote(text, safe="") == text
    assert verify([KEY], text, NOW, DAY).item_id == "ä/?&= ☃"


@given(query_id=st.text(max_size=40), item_id=st.text(max_size=40), position=st.integers(1, 10_000))
def test_any_ids_are_read_back(query_id: str, item_id: str, position: int) -> None:
    text = token(query_id=query_id, item_id=item_id, position=position)
    content = verify([KEY], text, NOW, DAY)
    assert (content.query_id, content.item_id, content.position) == (query_id, item_id, position)


def test_a_token_is_valid_while_its_key_is_known() -> None:
    old = token(key=OTHER_KEY)
    assert verify([KEY, OTHER_KEY], old, NOW, DAY).query_id == "q-1"
    with pytest.raises(TokenError, match="not signed with a key of this service"):
        verify([KEY], old, NOW, DAY)


def test_a_changed_payload_is_refused() -> None:
    payload, _, signature = token().partition(".")
    fields = json.loads(base64.urlsafe_b64decode(payload + "=="))
    fields[2] = "another item"
    forged = base64.urlsafe_b64encode(json.dumps(fields).encode()).rstrip(b"=").decode()
    with pytest.raises(TokenError, match="not signed with a key of this service"):
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
def test_malformed_tokens_are_refused(text: str) -> None:
    with pytest.raises(TokenError, match="click token"):
        verify([KEY], text, NOW, DAY)


@given(st.text(max_size=80))
def test_garbage_raises_no_other_error(text: str) -> None:
    with pytest.raises(TokenError):
        verify([KEY], text, NOW, DAY)


def test_age_limits() -> None:
    text = token()
    assert verify([KEY], text, NOW + DAY, DAY)
    assert verify([KEY], text, NOW - timedelta(seconds=59), DAY)
    with pytest.raises(TokenError, match=r"86401 s old, more than the allowed 86400 s"):
        verify([KEY], text, NOW + DAY + timedelta(seconds=1), DAY)
    with pytest.raises(TokenError, match="in the future: check the clocks"):
        verify([KEY], text, NOW - timedelta(minutes=2), DAY)


def test_times_need_a_zone() -> None:
    naive = NOW.replace(tzinfo=None)
    with pytest.raises(TokenError, match="no time zone"):
        token(issued=naive)
    with pytest.raises(TokenError, match="no time zone"):
        verify([KEY], token(), naive, DAY)


def test_short_or_missing_keys_are_refused() -> None:
    with pytest.raises(TokenError, match="32 bytes"):
        token(key=b"short")
    with pytest.raises(TokenError, match="at least one key"):
        verify([], token(), NOW, DAY)


def test_a_signed_token_of_another_format_is_refused() -> None:
    payload = base64.urlsafe_b64encode(b'[2,"q"]').rstrip(b"=").decode()
    digest = hmac.new(KEY, payload.encode(), hashlib.sha256).digest()
    signature = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    with pytest.raises(TokenError, match="a format that this release does not read"):
        verify([KEY], f"{payload}.{signature}", NOW, DAY)


def test_the_event_id_depends_on_impression_and_type_only() -> None:
    content = verify([KEY], token(), NOW, DAY)
    again = verify([OTHER_KEY], token(key=OTHER_KEY, issued=NOW + DAY), NOW + DAY, DAY)
    assert event_id(content, "click") == event_id(again, "click")
    assert event_id(content, "click") != event_id(content, "order")
    for change in ({"query_id": "q-2"}, {"item_id": "other"}, {"position": 4}):
        assert event_id(dataclasses.replace(content, **change), "click") != event_id(content, "click")


def test_to_click_keeps_the_ids() -> None:
    content = verify([KEY], token(), NOW, DAY)
    assert to_click(content, "order", NOW, 9.95).amount == 9.95
    assert to_click(content, "order", NOW) == Click(
        event_id(content, "order"), "order", "q-1", "Packages/Milk|7", NOW
    )
