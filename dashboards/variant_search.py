"""Sends one search to every variant's Bento at once, as a preview that is not recorded.

Each version's answer can be shown as soon as it arrives: a slow version does not delay the others.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import secrets
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx

from immr.data.mapping.shop_map import PictureRules
from immr.data.pictures.file_kinds import media_type_of
from immr.data.pictures.remote.async_requests import AsyncPictureRequests
from immr.data.pictures.remote.requests import RequestFailedError
from immr.experiment.definition import PREVIEW, Variant

log = logging.getLogger(__name__)

_PREVIEW_HEADERS = {"x-immr-variant": PREVIEW}
_TIMEOUT = httpx.Timeout(20.0, connect=2.0)
_PARTS_TIMEOUT = httpx.Timeout(5.0, connect=1.0)  # for each version; proposals that come later help nobody
_REFUSED = frozenset({400, 413, 415, 422})
_TOGETHER_S = 0.15  # answers this close to each other appear together
_KEPT_SEARCHES = 32
PICTURES = PictureRules(parallel=8, timeout_s=5.0, tries=1, max_mb=10.0)


@dataclass(frozen=True, slots=True)
class Move:
    """Where another version ranks the same item.

    Attributes:
        version: The other version.
        position: The item's position there; None if it is not among that version's hits.
        up: How many places higher the item is here than there; negative if lower.
    """

    version: str
    position: int | None
    up: int = 0


@dataclass(frozen=True, slots=True)
class ShownHit:
    """A hit as the page shows it, with its position in the other versions' answers."""

    position: int
    item_id: str
    title: str
    category: str
    score: float
    parts: Mapping[str, float]
    price: float | None
    ctr: float | None
    moves: Sequence[Move] = ()
    exact: bool = False  # it is the item in the photo
    members: Sequence[str] = ()  # titles of other items of its group


@dataclass(frozen=True, slots=True)
class VersionAnswer:
    """One variant's answer, or the problem as a sentence; `waiting` until there is one."""

    variant: str
    model_version: str
    hits: Sequence[ShownHit] = ()
    took_ms: float = 0.0
    degraded: bool = False
    problem: str = ""
    refused: bool = False  # the photo or a field is at fault, not the version
    nothing_fits: bool = False  # the catalogue has nothing like the photo
    waiting: bool = False


@dataclass(frozen=True, slots=True)
class PreviewSearch:
    """What to search for: a photo or an item, words, or words beside one of them."""

    k: int
    content: bytes = field(default=b"", repr=False)
    media_type: str = ""
    item_id: str = ""
    text: str = ""
    category: str = ""
    box: str = ""  # the part of the photo to search for
    filters: Sequence[str] = ()  # each like `price:1..4`
    group_by: str = ""  # an attribute of which each value is shown once

    @property
    def fields(self) -> list[tuple[str, str]]:
        """The form fields of the API, without the photo and without empty ones."""
        given = {"item_id": self.item_id, "text": self.text, "box": self.box, "category": self.category}
        given |= {"group_by": self.group_by}
        filters = [("filter", each) for each in self.filters]
        return [*((name, value) for name, value in given.items() if value), *filters, ("k", str(self.k))]


@dataclass(frozen=True, slots=True)
class PhotoPart:
    """A part of a photo that a shopper may want to search for.

    Attributes:
        box: The field `box` of a search: x, y, width and height as shares of the photo.
        score: How much it stands out from its surroundings, from 0 to 1.
    """

    box: str
    score: float


class RunningSearch:
    """One search at several variants, whose answers arrive one by one."""

    def __init__(
        self, search: PreviewSearch, asked: Sequence[tuple[Variant, asyncio.Task[VersionAnswer]]]
    ) -> None:
        self.id = secrets.token_urlsafe(12)
        self.search = search
        self._asked = asked

    @property
    def answers(self) -> list[VersionAnswer]:
        """In the order of the variants; those that are not there yet are `waiting`."""
        return side_by_side([_answer_so_far(variant, task) for variant, task in self._asked])

    @property
    def answered(self) -> int:
        """How many variants have answered or failed."""
        return sum(task.done() for _, task in self._asked)

    async def more_than(self, seen: int) -> None:
        """Wait until more than `seen` variants have answered, and a moment longer for the rest."""
        while self.answered <= seen and (pending := self._pending()):
            await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        if pending := self._pending():
            await asyncio.wait(pending, timeout=_TOGETHER_S)

    def cancel(self) -> None:
        """Ask no longer."""
        for task in self._pending():
            task.cancel()

    def _pending(self) -> list[asyncio.Task[VersionAnswer]]:
        return [task for _, task in self._asked if not task.done()]


class VariantSearch:
    """Searches the running experiment's variants over HTTP. Call `close` when done.

    Args:
        pictures: How pictures are fetched that a version redirects to.
    """

    def __init__(self, pictures: PictureRules = PICTURES) -> None:
        self._client = httpx.AsyncClient(timeout=_TIMEOUT, trust_env=False)
        self._pictures = AsyncPictureRequests(pictures)
        self._kept: OrderedDict[str, RunningSearch] = OrderedDict()

    def start(self, variants: Sequence[Variant], search: PreviewSearch) -> RunningSearch:
        """Ask all variants at once; they are not counted as impressions."""
        asked = [(variant, asyncio.create_task(self._search(variant, search))) for variant in variants]
        running = RunningSearch(search, asked)
        self._kept[running.id] = running
        while len(self._kept) > _KEPT_SEARCHES:
            self._kept.popitem(last=False)[1].cancel()
        return running

    def running(self, search_id: str) -> RunningSearch | None:
        """A search that was started; None if it is not among the newest."""
        return self._kept.get(search_id)

    async def photo_parts(
        self, variants: Sequence[Variant], content: bytes, media_type: str
    ) -> Sequence[PhotoPart]:
        """The parts of a photo to propose, best first, from the first variant that answers; none if none does."""
        for variant in variants:
            try:
                response = await self._client.post(
                    f"{_base(variant)}/v1/regions",
                    files={"image": ("photo", content, media_type)},
                    timeout=_PARTS_TIMEOUT,
                )
                if response.status_code in _REFUSED:
                    return []
                if response.is_success:
                    found = response.json()["regions"]
                    return [PhotoPart(str(each["box"]), float(each["score"])) for each in found]
            except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
                log.info("%s proposed no parts of a photo: %r", variant.name, error)
        return []

    async def image(self, variant: Variant, item_id: str) -> tuple[bytes, str] | None:
        """An item's catalogue picture and its media type; None if there is none.

        A version is asked at its own address. Where it redirects to, the catalogue's URL, is not trusted.
        """
        address = f"{_base(variant)}/v1/items/{quote(item_id, safe='')}/image"
        try:
            response = await self._client.get(address)
            content = response.content
            if response.has_redirect_location:
                content = await self._pictures.read(response.headers["location"])
            elif not response.is_success:
                return None
        except (httpx.HTTPError, RequestFailedError) as error:
            log.info("no picture of %s from %s: %s", item_id, variant.name, error)
            return None
        media_type = media_type_of(content)
        return (content, media_type) if media_type else None

    async def close(self) -> None:
        """End the searches and close the connections."""
        for running in self._kept.values():
            running.cancel()
        await self._client.aclose()
        await asyncio.to_thread(self._pictures.close)

    async def _search(self, variant: Variant, search: PreviewSearch) -> VersionAnswer:
        fields = [*search.fields, ("user_id", "preview")]
        parts: list[tuple[str, Any]] = [(name, (None, value)) for name, value in fields]
        if search.content:
            parts.append(("image", ("photo", search.content, search.media_type)))
        try:
            response = await self._client.post(
                f"{_base(variant)}/v1/search", files=parts, headers=_PREVIEW_HEADERS
            )
            if response.is_success:
                return _answer(variant, response.json())
            problem, refused = _reason(response), response.status_code in _REFUSED
        except httpx.TimeoutException:
            problem, refused = f"It did not answer in time at {variant.url}. Try again in a moment.", False
        except httpx.TransportError:
            problem, refused = (
                f"Nothing answers at {variant.url}. Start this version again, or read its log.",
                False,
            )
        except (ValueError, KeyError, TypeError) as error:
            log.warning("%s sent an answer that does not match the API: %r", variant.name, error)
            problem, refused = f"The server at {variant.url} is not IMMR. Check the experiment file.", False
        return VersionAnswer(variant.name, variant.model_version, problem=problem, refused=refused)


def _answer_so_far(variant: Variant, task: asyncio.Task[VersionAnswer]) -> VersionAnswer:
    if not task.done():
        return VersionAnswer(variant.name, variant.model_version, waiting=True)
    if task.cancelled():
        problem = "This search was dropped for newer ones. Search again."
        return VersionAnswer(variant.name, variant.model_version, problem=problem)
    return task.result()


def side_by_side(answers: Sequence[VersionAnswer]) -> list[VersionAnswer]:
    """The same answers, each hit with its position in the others."""
    places = [{hit.item_id: hit.position for hit in answer.hits} for answer in answers]
    compared = []
    for number, answer in enumerate(answers):
        others = [
            (other.model_version, places[index])
            for index, other in enumerate(answers)
            if index != number and not other.problem and not other.waiting
        ]
        hits = [dataclasses.replace(hit, moves=_moves(hit, others)) for hit in answer.hits]
        compared.append(dataclasses.replace(answer, hits=hits))
    return compared


def _moves(hit: ShownHit, others: Sequence[tuple[str, Mapping[str, int]]]) -> list[Move]:
    found = [(version, places.get(hit.item_id)) for version, places in others]
    return [Move(version, place, place - hit.position if place else 0) for version, place in found]


def _answer(variant: Variant, body: Mapping[str, Any]) -> VersionAnswer:
    hits = [_hit(position, hit) for position, hit in enumerate(body["hits"], start=1)]
    return VersionAnswer(
        variant.name,
        str(body["model_version"]),
        hits,
        float(body["took_ms"]),
        bool(body["degraded"]),
        nothing_fits=body.get("match") == "none",
    )


def _hit(position: int, hit: Mapping[str, Any]) -> ShownHit:
    features = hit.get("features") or {}
    return ShownHit(
        position=position,
        item_id=str(hit["item_id"]),
        title=str(hit["title"]),
        category=str(hit["category"]),
        score=float(hit["score"]),
        parts={str(name): float(value) for name, value in (hit.get("score_parts") or {}).items()},
        price=features.get("price"),
        ctr=features.get("ctr_7d"),
        exact=hit.get("match") == "exact",
        members=[str(member["title"]) for member in hit.get("members") or ()],
    )


def _reason(response: httpx.Response) -> str:
    try:
        detail = str(response.json()["detail"]).strip()
    except (ValueError, KeyError, TypeError):
        detail = f"it answered with status {response.status_code}"
    sentence = detail[:1].upper() + detail[1:]
    return sentence if sentence.endswith((".", "!", "?")) else f"{sentence}."


def _base(variant: Variant) -> str:
    return variant.url.rstrip("/")
