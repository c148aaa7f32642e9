import dataclasses
import json
from datetime import UTC, datetime

import pytest

from immr.errors import EventRefusedError
from immr.events.kafka.messages import of_click, of_search, read
from immr.types import Click, Impression, SearchRecord

NOON = datetime(2025, 5, 1, 12, 0, 0, 123_456, tzinfo=UTC)
SEARCH = SearchRecord("q1", "änn", NOON, "champion", "immr-1", 12.5, 1)
SHOWN = Impression("q1", "tea", 1, "änn", "champion", "immr-1", NOON)
CLICK = Click("e1", "click", "q1", "tea", NOON)


def test_a_sent_message_is_read_back() -> None:
    found = read(of_search(SEARCH, [SHOWN]).value)
    assert (found.search, found.impressions, found.clicks) == (SEARCH, [SHOWN], [])
    order = dataclasses.replace(CLICK, type="order", amount=12.5)
    assert read(of_click(order).value).clicks == [order]
    assert read(of_click(CLICK).value).clicks == [CLICK]


def test_a_search_and_its_clicks_share_a_partition() -> None:
    assert of_search(SEARCH, [SHOWN]).key == of_search(None, [SHOWN]).key == of_click(CLICK).key


def test_fields_of_a_newer_release_are_ignored() -> None:
    body = json.loads(of_click(CLICK).value)
    body["click"]["colour"] = "red"
    assert read(json.dumps(body).encode()).clicks == [CLICK]


@pytest.mark.parametrize(
    "value", [b"", b"[]", b'{"click": {}}', b'{"search": {"query_id": 1}}', b"\xff", b'{"click": 7}']
)
def test_foreign_messages_are_refused(value: bytes) -> None:
    with pytest.raises(EventRefusedError, match="use a topic for IMMR's events alone"):
        read(value)


def test_an_incomplete_event_is_not_sent() -> None:
    with pytest.raises(EventRefusedError, match="has no time zone"):
        of_click(dataclasses.replace(CLICK, ts=NOON.replace(tzinfo=None)))
    with pytest.raises(EventRefusedError, match="Click lacks item_id"):
        of_click(dataclasses.replace(CLICK, item_id=None))  # type: ignore[arg-type]
