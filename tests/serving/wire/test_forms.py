"""Reading a search's body: what clients send in odd forms is read, what is wrong is said."""

from __future__ import annotations

import httpx
import pytest
from fastapi.exceptions import RequestValidationError
from hypothesis import given
from hypothesis import strategies as st

from serving.wire.forms import SearchForm
from serving.wire.problems import ProblemError
from serving.wire.search_request import asked_by

PLAIN = "multipart/form-data; boundary=b"
IMAGE = b'Content-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
K = b'Content-Disposition: form-data; name="k"\r\n\r\n'


def read(body: bytes, content_type: str = PLAIN) -> SearchForm:
    return SearchForm.read(body, {"content-type": content_type, "authorization": "Bearer x", "accept": "*"})


def form(*parts: bytes) -> bytes:
    return b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + b"--b--\r\n"


@given(photo=st.binary(), user=st.text(st.characters(codec="utf-8")), k=st.integers())
def test_what_a_client_sends_comes_out_as_it_was(photo: bytes, user: str, k: int) -> None:
    fields = {"user_id": user, "k": k}
    sent = httpx.Request("POST", "http://x", files={"image": ("a.jpg", photo)}, data=fields)
    found = SearchForm.read(sent.read(), sent.headers)
    assert found.photo == photo
    assert found.values == {"user_id": user, "k": str(k)}
    assert found.headers == {"content-type": sent.headers["content-type"]}


@pytest.mark.parametrize(
    "photo", [b"", b"\r\n", b"\r\n--bx\r\n", b"--b0", b"\r\n--b x", b"\r\n\r\n", b"\r\n-", b"a\r\n--\r\nb"]
)
def test_a_photo_may_hold_what_looks_like_a_line_of_the_form(photo: bytes) -> None:
    found = read(form(IMAGE + photo, K + b"7"))
    assert (found.photo, found.values) == (photo, {"k": "7"})
    assert found.headers == {
        "content-type": PLAIN,
        "authorization": "Bearer x",
    }


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"for old mailers\r\n" + form(K + b"7") + b"the end", PLAIN),
        (form(K + b"7")[:-2], 'Multipart/Form-Data; charset=utf-8; boundary="b"'),
        (b"--b \t\r\n" + K + b"7\r\n--b-- \r\n", "multipart/form-data;boundary=b"),
        (form(b"content-type: text/plain\r\nCONTENT-DISPOSITION:form-data;name=k\r\n\r\n7"), PLAIN),
        (form(b"Content-Disposition: form-data; filename*=UTF-8''x; name=\"k\"\r\n\r\n7"), PLAIN),
    ],
    ids=["around it", "quoted boundary", "blanks", "unquoted", "extended"],
)
def test_odd_forms_are_read(body: bytes, content_type: str) -> None:
    assert read(body, content_type).values == {"k": "7"}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "its end is missing"),
        (b"nonsense", "its end is missing"),
        (form(IMAGE + b"photo")[:-5], "its end is missing"),
        (b"--b\r\n" + IMAGE + b"photo", "its end is missing"),
        (form(b"Content-Disposition: form-data\r\n\r\nx"), "a part has no name"),
        (form(b'Content-Disposition: form-data; name=""\r\n\r\nx'), "a part has no name"),
        (form(b"\r\nx"), "a part has no name"),
        (form(b"x: " + b"y" * 5000 + b"\r\n" + K + b"7"), "a part has no name"),
        (form(*[K.replace(b"k", b"k%d" % number) for number in range(33)]), "more than 32 parts"),
        (form(K.replace(b"k", b"\xff")), "the name of a field is no valid UTF-8"),
        *[
            (form(K.replace(b"k", name) + b"\xff\xfe"), f"the field '{name.decode()}' is no valid UTF-8")
            for name in (b"k", b"user_id", b"item_id", b"page", b"category", b"price_min", b"price_max")
        ],
    ],
)
def test_what_cannot_be_read_is_a_400_that_says_why(body: bytes, words: str) -> None:
    with pytest.raises(ProblemError, match=words) as raised:
        read(body)
    assert raised.value.problem.status == 400


@pytest.mark.parametrize("boundary", ["", "; boundary=", "; boundary=ü", "; boundary=\u2028", ";;;="])
def test_a_form_names_its_boundary(boundary: str) -> None:
    with pytest.raises(ProblemError, match="names no boundary"):
        read(form(K + b"7"), f"multipart/form-data{boundary}")


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (form(K + b"7", K + b"7"), PLAIN),
        (form(IMAGE + b"one", K + b"7", IMAGE + b"two"), PLAIN),
        (b'{"item_id": "a", "k": 7, "k": 8}', "application/json"),
    ],
)
def test_a_field_that_comes_twice_is_a_422(body: bytes, content_type: str) -> None:
    with pytest.raises(ProblemError, match="came twice: send it once") as raised:
        read(body, content_type)
    assert raised.value.problem.status == 422


def test_an_empty_field_is_an_absent_one() -> None:
    user = K.replace(b"k", b"user_id")
    asked = asked_by(read(form(IMAGE, K, user, K.replace(b"k", b"item_id") + b"red")))
    assert asked.photo is None
    assert (asked.fields.item_id, asked.fields.k, asked.fields.user_id) == ("red", 10, None)
    assert asked_by(read(form(IMAGE))).photo == b"", "which the decoder has words for"
    assert asked_by(read(b'{"item_id": "red", "user_id": ""}', "application/json")).fields.user_id is None


def test_a_file_is_no_text() -> None:
    with pytest.raises(RequestValidationError):
        asked_by(read(form(IMAGE + b"x", IMAGE.replace(b"image", b"user_id") + b"ann")))
    with pytest.raises(RequestValidationError):
        asked_by(read(form(IMAGE.replace(b"image", b"picture") + b"\xff")))
