"""Reading a search's body: forms as clients send them, and the errors of malformed ones."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from immr.types import Region
from serving.wire.forms import SearchForm
from serving.wire.problems import ProblemError
from serving.wire.search.search_request import validate

PLAIN = "multipart/form-data; boundary=b"
IMAGE = b'Content-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
K = b'Content-Disposition: form-data; name="k"\r\n\r\n'


def read(body: bytes, content_type: str = PLAIN) -> SearchForm:
    return SearchForm.read(body, {"content-type": content_type, "authorization": "Bearer x", "accept": "*"})


def form(*parts: bytes) -> bytes:
    return b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + b"--b--\r\n"


@settings(max_examples=40)
@given(photo=st.binary(), user=st.text(st.characters(codec="utf-8")), k=st.integers())
def test_a_form_is_read_as_a_client_sent_it(photo: bytes, user: str, k: int) -> None:
    fields = {"user_id": user, "k": k}
    sent = httpx.Request("POST", "http://x", files={"image": ("a.jpg", photo)}, data=fields)
    found = SearchForm.read(sent.read(), sent.headers)
    assert found.photos == (photo,)
    assert found.values == {"user_id": user, "k": str(k)}
    assert found.headers == {"content-type": sent.headers["content-type"]}


@pytest.mark.parametrize(
    "photo", [b"", b"\r\n", b"\r\n--bx\r\n", b"--b0", b"\r\n\r\n", b"\r\n-", b"a\r\n--\r\nb"]
)
def test_a_photo_may_contain_what_resembles_a_boundary(photo: bytes) -> None:
    found = read(form(IMAGE + photo, K + b"7"))
    assert (found.photos, found.values) == ((photo,), {"k": "7"})
    assert found.headers == {"content-type": PLAIN, "authorization": "Bearer x"}


def test_a_photo_is_not_copied() -> None:
    photo = bytes(range(256)) * 400
    body = form(IMAGE + photo)
    [found] = read(body).photos
    assert found.obj is body and found == photo


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (form(K + b"7") + b"epilogue", PLAIN),
        (form(K + b"7")[:-2], 'Multipart/Form-Data; charset=utf-8; boundary="b"'),
        (form(K + b"7"), "multipart/form-data;boundary=b"),
        (form(b"content-type: text/plain\r\nCONTENT-DISPOSITION:form-data;name=k\r\n\r\n7"), PLAIN),
        (form(b"Content-Disposition: form-data; filename*=UTF-8''x; name=\"k\"\r\n\r\n7"), PLAIN),
    ],
    ids=["epilogue", "quoted boundary", "no blank", "unquoted", "extended"],
)
def test_unusual_forms_are_read(body: bytes, content_type: str) -> None:
    assert read(body, content_type).values == {"k": "7"}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "Its end is missing"),
        (b"nonsense", "malformed"),
        (b"a preamble\r\n" + form(K + b"7"), "malformed"),
        (form(IMAGE + b"photo")[:-5], "Its end is missing"),
        (b"--b\r\n" + IMAGE + b"photo", "Its end is missing"),
        (form(b"Content-Disposition: form-data\r\n\r\nx"), "A part has no name"),
        (form(b'Content-Disposition: form-data; name=""\r\n\r\nx'), "A part has no name"),
        (form(b"\r\nx"), "A part has no name"),
        (form(b"x: " + b"y" * 5000 + b"\r\n" + K + b"7"), "Maximum header size exceeded"),
        (form(b"".join(b"x-%d: y\r\n" % number for number in range(20)) + K + b"7"), "header count"),
        (form(*[K.replace(b"k", b"k%d" % number) for number in range(33)]), "more than 32 parts"),
        (form(K.replace(b"k", b"\xff")), "The name of a field is not valid UTF-8"),
        *[
            (form(K.replace(b"k", name) + b"\xff\xfe"), f"The field '{name.decode()}' is not valid UTF-8")
            for name in (b"k", b"user_id", b"item_id", b"page", b"category", b"price_min", b"price_max")
        ],
    ],
)
def test_a_malformed_form_is_a_400_with_the_reason(body: bytes, words: str) -> None:
    with pytest.raises(ProblemError, match=words) as raised:
        read(body)
    assert raised.value.problem.status == 400


@pytest.mark.parametrize("boundary", ["", "; boundary=", "; boundary=ü", "; boundary=\u2028", ";;;="])
def test_a_form_without_a_boundary_is_refused(boundary: str) -> None:
    with pytest.raises(ProblemError, match="names no boundary"):
        read(form(K + b"7"), f"multipart/form-data{boundary}")


def test_a_boundary_that_is_too_long_is_refused() -> None:
    with pytest.raises(ProblemError, match="malformed") as raised:
        read(form(K + b"7"), f"multipart/form-data; boundary={'b' * 500}")
    assert raised.value.problem.status == 400


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (form(K + b"7", K + b"7"), PLAIN),
        (b'{"item_id": "a", "k": 7, "k": 8}', "application/json"),
    ],
)
def test_a_repeated_field_is_a_422(body: bytes, content_type: str) -> None:
    with pytest.raises(ProblemError, match="more than once") as raised:
        read(body, content_type)
    assert raised.value.problem.status == 422


def test_an_empty_field_counts_as_absent() -> None:
    user = K.replace(b"k", b"user_id")
    search = validate(read(form(IMAGE, K, user, K.replace(b"k", b"item_id") + b"red")))
    assert search.photos == []
    assert (search.fields.item_id, search.fields.k, search.fields.user_id) == ("red", 10, None)
    with pytest.raises(ProblemError, match="Choose a photo"):
        validate(read(form(IMAGE)))
    assert validate(read(b'{"item_id": "red", "user_id": ""}', "application/json")).fields.user_id is None


@pytest.mark.parametrize("name", [b"limit", b"Image", b"", b"picture"])
def test_an_unknown_field_is_a_422_that_lists_the_known_ones(name: bytes) -> None:
    if not name:
        body, content_type = b'{"item_id": "red", "": 5}', "application/json"
    else:
        body, content_type = form(IMAGE + b"\xff\xd8", K.replace(b"k", name)), PLAIN
    with pytest.raises(
        ProblemError, match="Unknown field: send only image, item_id, image_url, page, k"
    ) as raised:
        validate(read(body, content_type))
    problem = raised.value.problem
    assert problem.status == 422
    assert problem.detail.count("Unknown field") == 1
    assert [error.field for error in problem.errors] == [name.decode()]


@pytest.mark.parametrize("text", [b"photo.jpg", "Grüße".encode() * 300, b"<html>", b"%PDF-1.7"])
@pytest.mark.parametrize("head", [IMAGE, K.replace(b"k", b"image")], ids=["file", "field"])
def test_text_as_photo_is_a_422_that_asks_for_a_picture(head: bytes, text: bytes) -> None:
    with pytest.raises(ProblemError, match="text, not a picture: send a JPEG") as raised:
        validate(read(form(head + text)))
    assert raised.value.problem.status == 422


def test_a_file_is_not_accepted_as_a_text_field() -> None:
    with pytest.raises(ProblemError, match="user_id: "):
        validate(read(form(IMAGE + b"\xff", IMAGE.replace(b"image", b"user_id") + b"ann")))


FILTER = K.replace(b"k", b"filter")


def test_photos_filters_and_facets_may_be_repeated() -> None:
    facets = K.replace(b"k", b"facets")
    body = form(
        IMAGE + b"\xff",
        FILTER + b"a:1",
        IMAGE + b"\xfe",
        FILTER + b"a:2",
        FILTER,
        facets + b"a, b,",
        facets + b"c",
    )
    search = validate(read(body))
    assert search.photos == [b"\xff", b"\xfe"]
    assert search.fields.filter == ["a:1", "a:2"]
    assert search.fields.facets == ["a", "b", "c"]


def test_at_most_five_photos_are_read() -> None:
    with pytest.raises(ProblemError, match="6 photos"):
        validate(read(form(*[IMAGE + b"\xff"] * 6)))


def test_a_photo_alone_has_its_fields_in_the_query_string() -> None:
    found = SearchForm.read(
        b"\xff\xd8", {"content-type": "image/jpeg"}, "k=3&filter=a:1&filter=b:%C3%A4&user_id="
    )
    search = validate(found)
    assert (search.photos, found.query[:3]) == ([b"\xff\xd8"], "k=3")
    assert (search.fields.k, search.fields.filter, search.fields.user_id) == (3, ["a:1", "b:ä"], None)
    many = "&".join(["filter=a:1"] * 33)
    for query, words in (
        ("k=1&k=2", "more than once"),
        ("k=%ff", "malformed"),
        (many, "more than 32 fields"),
    ):
        with pytest.raises(ProblemError, match=words):
            SearchForm.read(b"\xff", {"content-type": "image/png"}, query)


@pytest.mark.parametrize(
    ("image", "photos"),
    [
        ('"/9g="', [b"\xff\xd8"]),
        ('"data:image/jpeg;base64,/9g="', [b"\xff\xd8"]),
        ('["/9g=", "/9k="]', [b"\xff\xd8", b"\xff\xd9"]),
        ('"/9\\ng=\\r\\n"', [b"\xff\xd8"]),  # as `base64` wraps lines
        ('"_9g="', [b"\xff\xd8"]),  # the alphabet for URLs
        ('"/9g"', [b"\xff\xd8"]),
        ('" DATA:image/jpeg;base64,\\n/9g= "', [b"\xff\xd8"]),
    ],
)
def test_json_has_photos_in_base64(image: str, photos: list[bytes]) -> None:
    search = validate(read(f'{{"image": {image}, "k": 4}}'.encode(), "application/json"))
    assert (search.photos, search.fields.k) == (photos, 4)


@pytest.mark.parametrize(
    "image", ['"?"', "5", "[null]", '["/9g=", 5]', "{}", '"/9g=A"', '"ü"', '"A"', '"/tmp/a.jpg"']
)
def test_json_with_anything_else_as_image_is_a_422(image: str) -> None:
    with pytest.raises(ProblemError, match="base64") as raised:
        read(f'{{"image": {image}}}'.encode(), "application/json")
    assert raised.value.problem.status == 422


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ("0.5,0.5,0.6,0.5", "beyond the photo"),
        ("0,0,0,1", "is empty"),
        ("0,0,1", "x,y,width,height"),
        ("-1,0,1,1", "x,y,width,height"),
        ("nan,0,1,1", "x,y,width,height"),
        ("0,0,1,1,1", "x,y,width,height"),
        ("0,0,1,2", "beyond the photo"),
    ],
)
def test_an_invalid_box_is_a_422(box: str, words: str) -> None:
    with pytest.raises(ProblemError, match="box: ") as raised:
        validate(read(form(IMAGE + b"\xff", K.replace(b"k", b"box") + box.encode())))
    assert words in raised.value.problem.detail and raised.value.problem.status == 422


def test_a_box_belongs_to_one_photo() -> None:
    box = K.replace(b"k", b"box") + b"0,0,.5,0.5"
    assert validate(read(form(IMAGE + b"\xff", box))).region == Region(0, 0, 0.5, 0.5)
    for parts in ([IMAGE + b"\xff", IMAGE + b"\xfe"], [K.replace(b"k", b"item_id") + b"red"]):
        with pytest.raises(ProblemError, match="exactly one image"):
            validate(read(form(*parts, box)))


def test_a_photo_that_is_null_counts_as_absent() -> None:
    assert not validate(read(b'{"image": null, "text": "red"}', "application/json")).photos


@pytest.mark.parametrize("body", [b'{"text": "red"}', b'{"text": "red", "k": 2}'])
def test_a_field_beside_a_body_that_does_not_read_it_is_a_422(body: bytes) -> None:
    headers = {"content-type": "application/json"}
    assert validate(SearchForm.read(body, headers, "utm_source=mail")).fields.text == "red"
    with pytest.raises(ProblemError, match="k: Send it in the body"):
        validate(SearchForm.read(body, headers, "k=3&utm_source=mail"))


@pytest.mark.parametrize("field", ["k", "price_min", "price_max"])
def test_true_is_not_a_number(field: str) -> None:
    with pytest.raises(ProblemError, match=f"{field}: Send a number, not true or false"):
        validate(read(f'{{"text": "red", "{field}": true}}'.encode(), "application/json"))


def test_null_is_no_price() -> None:
    fields = validate(
        read(b'{"text": "red", "price_min": null, "price_max": null}', "application/json")
    ).fields
    assert (fields.price_min, fields.price_max) == (None, None)
