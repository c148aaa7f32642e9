"""A 4xx tells the caller what to send, in words that need no knowledge of Pydantic."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from serving.wire.forms import SearchForm
from serving.wire.problems import ProblemError
from serving.wire.search.search_request import validate
from tests.support import http_client


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        ({"k": "abc"}, "k: Send a whole number, such as 10"),
        ({"k": 2.5}, "k: Send a whole number, such as 10"),
        ({"price_min": "5,00"}, "price_min: Send a number with a decimal point, such as 4.5"),
        ({"price_max": []}, "price_max: Send a number with a decimal point, such as 4.5"),
        (
            {"filter": "brand"},
            "filter.0: Send attribute:value, such as brand:Nike, -brand:Nike or price:1..4",
        ),
        ({"facets": "brand name"}, "facets.0: Send the name of an attribute"),
        ({"group_by": "brand name"}, "group_by: Send the name of an attribute"),
        ({"box": "1,2"}, "box: Send x,y,width,height, each from 0 to 1, such as 0.2,0.2,0.6,0.6"),
        ({"image_url": "photo.jpg"}, "image_url: Send an address that begins with http:// or https://"),
        ({"context": "SE"}, 'context: send a JSON object such as {"country": "SE"}'),
        ({"context": [1]}, "context: Send a JSON object"),
        ({"color": "red"}, "color: Unknown field: send only image, item_id, image_url"),
    ],
)
def test_a_wrong_field_of_a_search(fields: dict[str, Any], detail: str) -> None:
    with pytest.raises(ProblemError) as refused:
        validate(SearchForm.read(json.dumps(fields).encode(), {"content-type": "application/json"}, ""))
    assert refused.value.problem.status == 422
    assert refused.value.problem.detail.startswith(detail)


def test_a_body_that_is_a_list() -> None:
    with pytest.raises(ProblemError, match="body: Send a JSON object"):
        validate(SearchForm.read(b"[1]", {"content-type": "application/json"}, ""))


def post(url: str, **fields: Any) -> httpx.Response:
    event = {"type": "click", "click_token": "x", "ts": "2026-05-01T12:00:00Z", **fields}
    return http_client.post(f"{url}/v1/events", json={"events": [event]})


def test_a_wrong_field_of_an_event(gateway_url: str) -> None:
    for fields, detail in (
        ({"ts": "yesterday"}, "events.0.ts: Send a time in ISO 8601 with its time zone"),
        ({"type": "order", "amount": "3,50 €"}, "events.0.amount: Send a number with a decimal point"),
        ({"amount": 3}, "events.0: only an order has an amount: leave it out of clicks"),
        ({"type": "order", "ammount": 3}, "events.0.ammount: Unknown field: send only type, click_token, ts"),
    ):
        answer = post(gateway_url, **fields)
        assert (answer.status_code, answer.json()["detail"][: len(detail)]) == (422, detail)
