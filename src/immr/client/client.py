"""Calls the search service over HTTP."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import httpx

from immr.client.answers import Answer, Hit, ProposedRegion, Recorded, Regions
from immr.errors import ServiceError

Photo = bytes | str | Path
"""The content of a picture file, or its path."""
Parsed = TypeVar("Parsed", Answer, Recorded, Regions)


class Client:
    """A connection to a gateway or a Bento; a context manager. Thread safe.

    Example:
        with Client("http://127.0.0.1:8080") as client:
            answer = client.search(Path("photo.jpg"), user_id="ann", filters=["price:..5"])
            client.click(answer.hits[0])
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        timeout_s: float = 5.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Connects on the first call.

        Args:
            url: Where the service is.
            key: Bearer key, if the service needs one.
            timeout_s: How long a connection, or a wait for the answer, may take.
            transport: How requests are sent, for tests; by default over the network.

        Raises:
            ServiceError: The URL has no `http://` or `https://`.
            TypeError: The URL is not a text. All methods raise it for an argument of the wrong type.
        """
        _check(isinstance(url, str), "url", "a text", url)
        if not url.startswith(("http://", "https://")):
            raise ServiceError(f"{url!r} is not the URL of a service: begin it with http:// or https://")
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self._url = url.rstrip("/")
        self._http = httpx.Client(timeout=timeout_s, headers=headers, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def search(
        self,
        *photos: Photo,
        image_url: str | None = None,
        item_id: str | None = None,
        text: str | None = None,
        user_id: str | None = None,
        k: int = 10,
        box: tuple[float, float, float, float] | None = None,
        category: str | None = None,
        filters: str | Sequence[str] = (),
        facets: str | Sequence[str] = (),
        group_by: str | None = None,
        members: int | None = None,
        context: Mapping[str, str] | None = None,
    ) -> Answer:
        """The best items for up to five photos of one thing, for words, or those most like an item.

        Args:
            photos: Paths, or the content of picture files.
            image_url: Instead of photos: where the photo is, if the service may fetch it.
            item_id: Instead of photos.
            text: Words, alone or beside photos or an item.
            user_id: The same user always gets the same variant.
            k: Number of hits.
            box: The part of the photo to search for: x, y, width, height from 0 to 1.
            category: Keep this category path and those below.
            filters: For example `brand:Nike`, `-brand:Nike`, `size:40..44`.
            facets: Attributes to count.
            group_by: Show each value of this attribute once.
            members: Other items of each group, 0 to 10; the service's default is 3.
            context: Where the search came from, in the declared dimensions: `{"country": "SE"}`.

        Raises:
            ServiceError: The service refused the search or did not answer.
        """
        are_numbers = isinstance(box, Sequence) and all(isinstance(each, int | float) for each in box)
        _check(not box or are_numbers, "box", "four numbers: x, y, width, height", box)
        _check(context is None or isinstance(context, Mapping), "context", "a dict of texts", context)
        fields: dict[str, Any] = {
            "image_url": image_url,
            "item_id": item_id,
            "text": text,
            "user_id": user_id,
            "k": k,
            "box": ",".join(map(str, box)) if box else None,
            "category": category,
            "filter": _listed(filters, "filters"),
            "facets": ",".join(_listed(facets, "facets")),
            "group_by": group_by,
            "members": members,
            "context": json.dumps(context, default=str) if context else None,
        }
        return self._search(
            photos, {name: value for name, value in fields.items() if value not in (None, "", [])}
        )

    def next_page(self, answer: Answer, user_id: str | None = None) -> Answer | None:
        """The page that follows; None after the last one.

        Raises:
            ServiceError: The service refused the search or did not answer.
        """
        _check(isinstance(answer, Answer), "answer", "the answer of a search", answer)
        if answer.next_page is None:
            return None
        return self._search((), {"page": answer.next_page, **({"user_id": user_id} if user_id else {})})

    def click(
        self, hit: Hit, kind: Literal["click", "order"] = "click", amount: float | None = None
    ) -> Recorded:
        """Report that a hit was clicked or ordered; repeating it is harmless.

        Args:
            hit: The hit of an answer.
            kind: What happened to it.
            amount: What an order was worth, in the shop's currency.

        Raises:
            ServiceError: The event is invalid, or the service did not answer.
        """
        _check(isinstance(hit, Hit), "hit", "a hit of an answer, such as answer.hits[0]", hit)
        event = {
            "type": kind,
            "click_token": hit.click_token,
            "ts": datetime.now(UTC).isoformat(),
            "amount": amount,
        }
        with self._answers():
            response = self._http.post(f"{self._url}/v1/events", json={"events": [event]})
        return _parsed(Recorded, response)

    def regions(self, photo: Photo) -> tuple[ProposedRegion, ...]:
        """Up to five parts of a photo that may show one thing each, best first; `search` takes their `box`.

        Raises:
            ServiceError: The photo cannot be read, or the service did not answer.
        """
        with self._answers():
            response = self._http.post(f"{self._url}/v1/regions", files={"image": ("photo", _content(photo))})
        return _parsed(Regions, response).regions

    def picture(self, hit: Hit) -> bytes:
        """The catalogue picture of a hit.

        Raises:
            ServiceError: The item has no picture, or the service did not answer.
        """
        _check(isinstance(hit, Hit), "hit", "a hit of an answer, such as answer.hits[0]", hit)
        with self._answers():
            # not joined as links are: a path would replace that of the service's own URL
            url = hit.image_url if "://" in hit.image_url else f"{self._url}/{hit.image_url.lstrip('/')}"
            response = self._http.get(url, follow_redirects=True)
        if response.is_error:
            raise _refusal(response)
        return response.content

    def _search(self, photos: Sequence[Photo], fields: dict[str, Any]) -> Answer:
        contents = [_content(photo) for photo in photos]
        with self._answers():
            if contents:
                files = [("image", ("photo", content)) for content in contents]
                response = self._http.post(f"{self._url}/v1/search", data=fields, files=files)
            else:
                response = self._http.post(f"{self._url}/v1/search", json=fields)
        return _parsed(Answer, response)

    @contextmanager
    def _answers(self) -> Iterator[None]:
        try:
            yield
        except httpx.HTTPError as error:
            raise ServiceError(
                f"{self._url} did not answer ({type(error).__name__}: {error}): check that the service runs there"
            ) from error


def _content(photo: Photo) -> bytes:
    expected = (
        "a path or the content of a file; several are separate arguments: search(a, b), or search(*photos)"
    )
    _check(isinstance(photo, bytes | str | Path), "photo", expected, photo)
    return photo if isinstance(photo, bytes) else Path(photo).read_bytes()


def _listed(values: str | Sequence[str], name: str) -> list[str]:
    """A text is one value, although it is a sequence of texts as well."""
    listed = [values] if isinstance(values, str) else values
    are_texts = isinstance(listed, Sequence) and all(isinstance(each, str) for each in listed)
    _check(are_texts, name, "a text or a list of texts", values)
    return list(listed)


def _check(fits: bool, name: str, expected: str, given: object) -> None:
    if not fits:
        raise TypeError(f"{name} should be {expected}; it is {reprlib.repr(given)}")


def _parsed(record: type[Parsed], response: httpx.Response) -> Parsed:
    if response.is_error:
        raise _refusal(response)
    try:
        return record.of(response.json())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ServiceError(
            f"{response.url} did not answer like an IMMR service: check the URL", response.status_code
        ) from error


def _refusal(response: httpx.Response) -> ServiceError:
    try:
        if not response.headers.get("content-type", "").startswith("application/problem+json"):
            raise ValueError  # another server's answer, such as FastAPI's "Not Found"
        detail = str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        detail = f"{response.url} answered with status {response.status_code}: check the URL"
    return ServiceError(detail, response.status_code)
