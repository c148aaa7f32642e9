"""Proposed regions over HTTP, on the Bento and through the gateway."""

from __future__ import annotations

import io
from base64 import b64encode

import pytest
from PIL import Image

from immr.settings import Settings
from immr.types import Region
from immr.wiring import connect
from serving.wire.search.regions import box_text
from tests.support import http_client, tiny_version
from tests.support.shopper import assert_problem


@pytest.fixture(params=["bento", "gateway"])
def url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found


def two_things() -> bytes:
    """Red on the left, blue on the right."""
    picture = Image.new("RGB", (400, 200), (120, 120, 120))
    picture.paste(tiny_version.COLOURS["red"], (30, 50, 130, 150))
    picture.paste(tiny_version.COLOURS["blue"], (270, 50, 370, 150))
    content = io.BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()


def test_each_region_can_be_searched_for(url: str) -> None:
    photo = two_things()
    answer = http_client.post(f"{url}/v1/regions", files={"image": ("a.png", photo)})
    assert answer.status_code == 200, answer.text
    regions = answer.json()["regions"]
    assert 2 <= len(regions) <= 5
    assert regions[0]["score"] >= regions[-1]["score"] > 0
    first = []
    for region in regions[:2]:
        search = http_client.post(
            f"{url}/v1/search", files={"image": ("a.png", photo)}, data={"box": region["box"], "k": "1"}
        )
        first.append(search.json()["hits"][0]["item_id"])
    assert sorted(first) == ["blue", "red"]


def test_a_photo_may_come_in_json_or_alone(url: str) -> None:
    photo = two_things()
    in_form = http_client.post(f"{url}/v1/regions", files={"image": ("a.png", photo)}).json()["regions"]
    in_json = http_client.post(f"{url}/v1/regions", json={"image": b64encode(photo).decode()})
    alone = http_client.post(f"{url}/v1/regions", content=photo, headers={"content-type": "image/png"})
    assert in_json.json()["regions"] == alone.json()["regions"] == in_form


def test_a_photo_of_one_colour_has_no_regions(url: str) -> None:
    answer = http_client.post(f"{url}/v1/regions", files={"image": ("a.jpg", tiny_version.photo("red"))})
    assert answer.json()["regions"] == []


def test_invalid_requests_are_refused(url: str) -> None:
    def post(**request: object) -> object:
        return http_client.post(f"{url}/v1/regions", **request)

    red = ("a.jpg", tiny_version.photo("red"))
    assert_problem(post(json={}), 422, "exactly one photo")
    assert_problem(post(files=[("image", red), ("image", red)]), 422, "has 2")
    assert_problem(post(files={"image": red}, data={"k": "3"}), 422, "send only image")
    assert_problem(post(files={"image": ("a.jpg", b"hello")}), 422, "not a picture")
    assert_problem(post(files={"image": ("a.jpg", b"\xff\xd8\xff\0broken")}), 422, "is broken or truncated")
    assert_problem(post(content=b"x", headers={"content-type": "audio/mp3"}), 415)


def test_nothing_is_recorded(bento_url: str, settings: Settings) -> None:
    def searches() -> int:
        log = connect(settings).events
        try:
            return int(log.searches().num_rows)
        finally:
            log.close()

    before = searches()
    http_client.post(f"{bento_url}/v1/regions", files={"image": ("a.png", two_things())})
    assert searches() == before


def test_a_box_is_rounded_into_the_photo() -> None:
    assert box_text(Region(1 / 3, 0.0, 2 / 3, 0.99999)) == "0.3333,0,0.6666,0.9999"
