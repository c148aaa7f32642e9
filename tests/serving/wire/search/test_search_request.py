"""Searches by item, with filters and by page, on the Bento and through the gateway."""

from __future__ import annotations

import gzip
from base64 import b64encode
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from immr.client import Client
from immr.search.pages import Wanted
from immr.settings import Settings
from immr.types import AttributeKind, Filters
from immr.wiring import connect
from serving.wire.problems import ProblemError
from serving.wire.search.filters import conditions
from serving.wire.search.search_fields import FIELD_NAMES, SearchFields
from serving.wire.search.search_request import SearchRequest
from tests.support import http_client, tiny_version
from tests.support.in_process import ready_version

RED = tiny_version.photo("red")
KINDS: dict[str, AttributeKind] = {"brand": "keyword", "colour": "keyword", "size": "number"}
FILTER = ["brand:A", "brand:B", "-colour:red", "size:40..44"]
PAGE = Wanted(10, Filters(price_min=5.0, price_max=9.0, conditions=conditions(FILTER, KINDS)))


@pytest.fixture(params=["bento", "gateway"])
def url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(f"{request.param}_url")
    return f"{found}/v1/search"


def ids(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [hit["item_id"] for hit in answer.json()["hits"]]


def problem(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    detail: str = answer.json()["detail"]
    return detail


def form(url: str, **fields: Any) -> httpx.Response:
    """A form without a photo, which httpx sends as multipart only like this."""
    return http_client.post(url, files={name: (None, str(value)) for name, value in fields.items()})


def test_more_like_an_item_by_json_and_by_form(url: str) -> None:
    by_json = http_client.post(url, json={"item_id": "with/slash ü", "k": 3, "user_id": "ann"})
    assert ids(by_json) == ids(form(url, item_id="with/slash ü", k=3)) and len(ids(by_json)) == 3
    assert "with/slash ü" not in ids(by_json)


def test_an_unknown_item_is_404(url: str) -> None:
    assert "no item 'none'" in problem(http_client.post(url, json={"item_id": "none"}), 404)


def test_a_form_without_a_chosen_file_asks_for_a_photo(url: str) -> None:
    """As browsers send it."""
    answer = http_client.post(url, files={"image": ("", b"", "application/octet-stream"), "text": (None, "")})
    assert "Choose a photo" in problem(answer, 422)


def test_prices_filter(url: str) -> None:
    price_of = {name: 1.0 + number for number, name in enumerate(tiny_version.COLOURS)}
    answer = http_client.post(
        url, files={"image": ("a.jpg", RED)}, data={"price_min": "2", "price_max": "3.5"}
    )
    assert sorted(price_of[item] for item in ids(answer)) == [2.0, 3.0]
    assert ids(http_client.post(url, json={"item_id": "red", "price_max": 2})) == ["green"]
    assert ids(http_client.post(url, json={"item_id": "red", "price_min": 2, "price_max": 2})) == ["green"]
    assert ids(http_client.post(url, json={"item_id": "green", "category": "Warm"})) == ["red"]


def test_a_reversed_range_names_both_ends(url: str) -> None:
    """It matched nothing, which looked like an empty catalogue."""
    prices = {"price_min": "3", "price_max": "1e-07"}
    photo = {"params": prices, "content": RED, "headers": {"content-type": "image/jpeg"}}
    for answer in (form(url, item_id="red", **prices), http_client.post(url, **photo)):
        assert "price_min: 3 is above the price_max of 1e-07" in problem(answer, 422)
    for text in ("size:44..40", "-size:44..40"):
        answer = http_client.post(url, json={"item_id": "red", "filter": ["size:40..41", text]})
        assert problem(answer, 422) == "filter: The range 44..40 is reversed. Send 40..44"


def test_attributes_filter_and_are_counted(url: str) -> None:
    answer = http_client.post(
        url,
        files={"image": ("a.jpg", RED)},
        data={"filter": ["shade:warm", "size:41.."], "facets": "shade,size,category"},
    )
    assert ids(answer) == ["yellow"]
    body = answer.json()
    assert body["hits"][0]["attributes"] == {"shade": "warm", "size": 43.0}
    assert body["facets"]["shade"]["counts"] == {"cold": 2, "warm": 1}
    assert body["facets"]["size"] == {"counts": {}, "min": 40.0, "max": 43.0}
    assert body["facets"]["category"]["counts"] == {"Other": 1, "Other/3": 1}
    others = http_client.post(url, json={"item_id": "red", "filter": "-shade:cold", "k": 5})
    assert sorted(ids(others)) == ["with/slash ü", "yellow"]
    assert others.json()["facets"] == {}


def test_filters_that_match_nothing_show_what_would(url: str) -> None:
    answer = http_client.post(url, json={"item_id": "red", "filter": ["shade:pale", "size:42..43"]})
    assert ids(answer) == []
    facets = answer.json()["facets"]
    assert facets["shade"]["counts"] == {"cold": 1, "warm": 1}
    assert facets["size"] == {"counts": {}, "min": None, "max": None}


@pytest.mark.parametrize(
    "fields",
    [
        {"filter": "colour:red"},
        {"filter": "size:big"},
        {"facets": "colour"},
        {"group_by": "size"},
        {"filter": "x"},
    ],
)
def test_an_unknown_attribute_is_a_422(url: str, fields: dict[str, str]) -> None:
    [name] = fields
    assert problem(http_client.post(url, json={"item_id": "red", **fields}), 422).startswith(name)


def test_attributes_that_are_lists(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    folder = tiny_version.write_packaged(tmp_path / "immr-1")
    tags_of = {"red": ["sale", "new"], "green": ["sale"], "blue": ["new"]}
    items = [
        replace(item, attributes={"tags": tags} if (tags := tags_of.get(item.item_id)) else {})
        for item in tiny_version.items(tmp_path / "pictures")
    ]
    tiny_version.build_index(settings, folder, items)
    with ready_version(settings, folder) as bento:
        url = f"{bento}/v1/search"
        any_of = form(url, text="thing", filter="tags:new", facets="tags")
        assert {hit["item_id"]: hit["attributes"]["tags"] for hit in any_of.json()["hits"]} == {
            **{"red": ["sale", "new"], "blue": ["new"]}
        }
        assert any_of.json()["facets"]["tags"]["counts"] == {"new": 2, "sale": 2}
        assert set(ids(form(url, text="thing", filter="-tags:new"))) == {"green", "yellow", "with/slash ü"}
        assert set(ids(form(url, text="sale"))) == {"red", "green"}
        reason = "group_by: tags has several values. Group by a keyword"
        assert problem(form(url, text="thing", group_by="tags"), 422) == reason
        with Client(str(bento)) as client:
            [hit] = client.search(item_id="blue", filters="tags:sale", k=1).hits
            assert "sale" in hit.attributes["tags"]  # type: ignore[operator]


def test_words_alone_or_beside_a_photo(url: str) -> None:
    words = http_client.post(url, json={"text": "a blue thing", "k": 2})
    assert ids(words)[0] == "blue" and words.json()["hits"][0]["score_parts"]["words"] > 0
    following = http_client.post(url, json={"page": words.json()["next_page"]})
    assert not set(ids(words)) & set(ids(following))
    assert ids(form(url, text="blue", filter="size:..41")) == []
    both = http_client.post(url, files={"image": ("a.jpg", RED)}, data={"text": "blue", "k": "2"})
    assert set(ids(both)) == {"red", "blue"}
    assert problem(http_client.post(url, json={"text": ""}), 422) == (
        "image: Field required: send one of image, item_id and page, or a text"
    )


def test_grouped_pages_show_each_group_once(url: str) -> None:
    first = http_client.post(url, json={"item_id": "with/slash ü", "k": 1, "group_by": "shade"})
    second = http_client.post(url, json={"page": first.json()["next_page"]})
    hits = [*first.json()["hits"], *second.json()["hits"]]
    assert sorted(hit["group"] for hit in hits) == ["cold", "warm"]
    assert [hit["position"] for hit in hits] == [1, 2]
    assert second.json()["next_page"] is None
    for hit in hits:
        [member] = hit["members"]
        assert member["item_id"] != hit["item_id"] and member["attributes"]["shade"] == hit["group"]
    alone = http_client.post(url, json={"item_id": "red", "k": 1, "group_by": "shade", "members": 0})
    following = http_client.post(url, json={"page": alone.json()["next_page"]})
    assert [hit["members"] for answer in (alone, following) for hit in answer.json()["hits"]] == [[], []]


def test_members_need_groups(url: str) -> None:
    for fields, reason in (
        ({"members": 3}, "members: Members are of groups. Send group_by as well"),
        ({"members": 11, "group_by": "shade"}, "members: Input should be less than or equal to 10"),
    ):
        assert problem(http_client.post(url, json={"item_id": "red", **fields}), 422) == reason


def test_a_photo_is_found_in_every_kind_of_body(url: str) -> None:
    raw = http_client.post(f"{url}?k=2&filter=size:..40", content=RED, headers={"content-type": "image/jpeg"})
    encoded = b64encode(RED).decode()
    by_json = http_client.post(url, json={"image": encoded, "k": 2, "filter": "size:..40"})
    assert ids(raw) == ids(by_json) == ["red"]
    both = http_client.post(url, json={"image": [encoded, encoded], "k": 1, "box": None})
    assert ids(both) == ["red"]
    boxed = http_client.post(url, files={"image": ("a.jpg", RED)}, data={"box": "0.1,0.1,0.5,0.5", "k": "1"})
    assert ids(boxed) == ["red"]


@pytest.mark.parametrize("photo", [True, False])
def test_pages_need_no_photo(url: str, settings: Settings, photo: bool) -> None:
    if photo:
        answer = http_client.post(url, files={"image": ("a.jpg", RED)}, data={"k": "2", "price_max": "4"})
    else:
        answer = http_client.post(url, json={"item_id": "with/slash ü", "k": 2, "price_max": 4})
    pages = [answer]
    while token := pages[-1].json()["next_page"]:
        again = http_client.post(url, json={"page": token})
        assert ids(again) == ids(form(url, page=token)), "the same token gives the same page"
        pages.append(again)
    seen = [hit for page in pages for hit in page.json()["hits"]]
    assert sorted(hit["item_id"] for hit in seen) == sorted(list(tiny_version.COLOURS)[:4])
    assert [hit["position"] for hit in seen] == [1, 2, 3, 4]
    assert len({page.json()["query_id"] for page in pages}) == len(pages)


def test_a_page_takes_no_other_values_than_its_search(url: str) -> None:
    fields = {"k": 2, "price_max": 4, "filter": ["size:40..44"], "category": "Other"}
    token = http_client.post(url, json={"item_id": "red", **fields}).json()["next_page"]
    alone = http_client.post(url, json={"page": token})
    assert ids(http_client.post(url, json={"page": token, **fields, "user_id": "ann"})) == ids(alone)
    changes = {"k": 3, "price_max": 3, "price_min": 1, "filter": "size:41", "category": "Warm", "text": "red"}
    for name, value in changes.items():
        refused = problem(http_client.post(url, json={"page": token, name: value}), 422)
        assert refused.startswith(f"{name}: The page continues a search with another value")


@pytest.mark.parametrize(
    "fields",
    [
        {"price_min": 5, "price_max": None},
        {"filter": FILTER[::-1], "text": None},
        {"filter": ["size:40..44", *FILTER]},
        {"filter": []},
    ],
)
def test_a_page_takes_the_values_of_its_search_in_any_order(fields: dict[str, Any]) -> None:
    SearchRequest((), SearchFields(**fields)).check_continues(PAGE, KINDS)


@pytest.mark.parametrize(
    "fields",
    [
        {"price_min": 0},
        {"price_min": 4},
        {"price_max": 0},
        {"filter": FILTER[1:]},
        {"filter": ["brand:A", "brand:B", "colour:red", "size:40..44"]},
        {"filter": [*FILTER[:3], "size:40.."]},
        {"filter": [*FILTER, "size:41"]},
    ],
)
def test_a_page_refuses_another_value_and_zero_is_one(fields: dict[str, Any]) -> None:
    [name] = fields
    with pytest.raises(ProblemError, match=f"{name}: The page continues a search with another value"):
        SearchRequest((), SearchFields(**fields)).check_continues(PAGE, KINDS)


def test_an_invalid_page_token_is_a_400(url: str, bento_url: str) -> None:
    token = http_client.post(url, json={"item_id": "red", "k": 1}).json()["next_page"]
    for wrong in ("x", "a.b.c", token[:-1], "A" + token, f"{token}ü", "." * 50, token.replace(".", "..")):
        assert "start a new search" in problem(http_client.post(url, json={"page": wrong}), 400)


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"{", 400),
        (b"\xff", 400),
        (b"[" * 100_000, 400),
        (b"", 400),
        (b"[]", 422),
        (b"null", 422),
        (b"{}", 422),
        (b'{"item_id": ""}', 422),
        (b'{"item_id": 5}', 422),
        (b'{"item_id": "\\ud800"}', 422),
        (b'{"item_id": "red", "page": "x"}', 422),
        (b'{"item_id": "red", "k": 0}', 422),
        (b'{"item_id": "red", "k": 101}', 422),
        (b'{"item_id": "red", "price_min": -1}', 422),
        (b'{"item_id": "red", "price_max": NaN}', 422),
        (b'{"item_id": "red", "price_max": 1e999}', 422),
    ],
)
def test_invalid_json_is_a_problem(url: str, content: bytes, status: int) -> None:
    assert problem(
        http_client.post(url, content=content, headers={"content-type": "application/json"}), status
    )


def test_limits_of_filters_are_in_the_message(url: str) -> None:
    """A facet may offer a long value, and a page that filters by 20 of them is a valid token."""
    long = [f"shade:{number}{'ü' * 990}" for number in range(20)]
    assert http_client.post(url, json={"item_id": "red", "filter": long}).json()["hits"] == []
    too_long = http_client.post(url, json={"item_id": "red", "filter": "shade:" + "x" * 1001})
    assert "a value of at most 1000 characters" in problem(too_long, 422)
    too_many = http_client.post(url, json={"item_id": "red", "filter": [*long, "shade:warm"]})
    assert "filter: Send at most 20, not 21" in problem(too_many, 422)
    first = http_client.post(url, json={"item_id": "red", "k": 1, "filter": [*long[1:], "shade:cold"]}).json()
    assert http_client.post(url, json={"page": first["next_page"]}).status_code == 200


def test_a_photo_and_an_item_are_refused_together(url: str) -> None:
    answer = http_client.post(url, files={"image": ("a.jpg", RED)}, data={"item_id": "red"})
    assert "send one of image, item_id and page" in problem(answer, 422)


def test_positions_of_later_pages_are_recorded(bento_url: str, settings: Settings) -> None:
    url = f"{bento_url}/v1/search"
    token = http_client.post(url, json={"item_id": "red", "k": 3}).json()["next_page"]
    query_id = http_client.post(url, json={"page": token, "user_id": "bob"}).json()["query_id"]
    log = connect(settings).events
    for _ in range(600):
        rows = [row for row in log.joined().to_pylist() if row["query_id"] == query_id]
        if rows:
            break
    log.close()
    assert [(row["position"], row["user_id"]) for row in rows] == [(4, "bob")]


def test_hits_and_answer_say_whether_they_are_the_thing_on_the_photo(url: str) -> None:
    photo = {"image": ("a.jpg", RED)}
    found = http_client.post(url, files=photo).json()
    assert [hit["match"] for hit in found["hits"]] == ["exact", *["similar"] * 4]
    assert found["match"] == "exact"
    assert http_client.post(url, files=photo, data={"filter": "-category:Warm"}).json()["match"] == "similar"
    assert http_client.post(url, files=photo, data={"category": "Nowhere"}).json()["match"] == "none"
    for unknown in ({"item_id": "red"}, {"text": "red"}):
        found = http_client.post(url, json=unknown).json()
        assert {found["match"], *(hit["match"] for hit in found["hits"])} == {None}


@pytest.mark.parametrize("text", [" ", "\t\n", "\u200b", "\u00a0 \u202e", "\0"])
def test_a_text_of_which_nothing_can_be_seen_is_none(url: str, text: str) -> None:
    """Its embedding changed the order of a photo's hits."""
    photo = b64encode(RED).decode()
    alone = http_client.post(url, json={"image": photo, "user_id": "ann"}).json()
    beside = http_client.post(url, json={"image": photo, "user_id": "ann", "text": text}).json()
    assert beside["match"] == alone["match"] == "exact"
    assert [hit["score"] for hit in beside["hits"]] == [hit["score"] for hit in alone["hits"]]
    assert "or a text" in problem(http_client.post(url, json={"text": text}), 422)


def test_a_blank_field_counts_as_absent(url: str) -> None:
    json = {**dict.fromkeys(FIELD_NAMES), "text": "red"}
    assert http_client.post(url, json=json).status_code == 200
    blank = dict.fromkeys(("item_id", "user_id", "category", "price_min", "k", "group_by", "box"), " ")
    answer = http_client.post(url, files={"image": ("a.jpg", RED)}, data=blank)
    assert ids(answer)[0] == "red"


@pytest.mark.parametrize("field", ["k", "price_min", "price_max"])
def test_a_number_has_digits_alone(url: str, field: str) -> None:
    """Python reads 1_0 as 10."""
    assert f"{field}: Send a number with digits alone" in problem(
        form(url, item_id="red", **{field: "1_0"}), 422
    )


@pytest.mark.parametrize("user_id", ["undefined", "null", "None", "[object Object]"])
def test_what_programs_send_for_no_user_is_refused(url: str, user_id: str) -> None:
    """All visitors without an id would be one user, in one variant."""
    refused = problem(http_client.post(url, json={"item_id": "red", "user_id": user_id}), 422)
    assert f"user_id: {user_id!r} stands for a missing id. Leave the field out" in refused
    assert ids(http_client.post(url, json={"item_id": "red", "user_id": user_id.capitalize() + "s"}))


@pytest.mark.parametrize("path", ["/v1/search", "/v1/events"])
@pytest.mark.parametrize(
    ("codings", "named"), [(["gzip"], "gzip"), (["GZIP, br"], "gzip, br"), (["br", "identity"], "br")]
)
def test_a_compressed_body_is_refused_by_that_name(
    url: str, path: str, codings: list[str], named: str
) -> None:
    body = gzip.compress(b'{"item_id": "red"}')
    headers = [("content-type", "application/json"), *(("content-encoding", each) for each in codings)]
    answer = http_client.post(url.replace("/v1/search", path), content=body, headers=headers)
    assert f"The body is compressed ({named})" in problem(answer, 415)
