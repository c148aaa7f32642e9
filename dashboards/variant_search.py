"""Sends one search to every variant's Bento at once, as a preview that is not recorded."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx

from immr.experiment.definition import PREVIEW, Variant

log = logging.getLogger(__name__)

_PREVIEW_HEADERS = {"x-immr-variant": PREVIEW}
_TIMEOUT = httpx.Timeout(20.0, connect=2.0)
_REFUSED = frozenset({400, 413, 415, 422})


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
    elsewhere: str = ""  # "3rd in immr-1", "not in immr-1"
    exact: bool = False  # it is the item in the photo


@dataclass(frozen=True, slots=True)
class VersionAnswer:
    """One variant's answer, or the problem as a sentence."""

    variant: str
    model_version: str
    hits: Sequence[ShownHit] = ()
    took_ms: float = 0.0
    degraded: bool = False
    problem: str = ""
    refused: bool = False  # the photo or a field is at fault, not the version
    nothing_fits: bool = False  # the catalogue has nothing like the photo


@dataclass(frozen=True, slots=True)
class PreviewSearch:
    """A photo with the search's options."""

    content: bytes = field(repr=False)
    media_type: str
    k: int
    category: str = ""


class VariantSearch:
    """Searches the running experiment's variants over HTTP. Call `close` when done."""

    def __init__(self) -> None:
        self._client = httpx.AsyncClient(timeout=_TIMEOUT, trust_env=False)

    async def search(self, variants: Sequence[Variant], search: PreviewSearch) -> list[VersionAnswer]:
        """All variants' answers, in the order of `variants`; they are not counted as impressions."""
        answers = await asyncio.gather(*(self._search(variant, search) for variant in variants))
        return side_by_side(answers)

    async def image(self, variant: Variant, item_id: str) -> tuple[bytes, str] | None:
        """An item's catalogue picture and its media type; None if the version has none."""
        try:
            address = f"{_base(variant)}/v1/items/{quote(item_id, safe='')}/image"
            response = await self._client.get(address, follow_redirects=True)
        except httpx.HTTPError as error:
            log.info("no picture of %s from %s: %s", item_id, variant.name, error)
            return None
        media_type = response.headers.get("content-type", "")
        if not response.is_success or not media_type.startswith("image/"):
            return None
        return response.content, media_type

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _search(self, variant: Variant, search: PreviewSearch) -> VersionAnswer:
        form = {"k": str(search.k), "user_id": "preview"} | (
            {"category": search.category} if search.category else {}
        )
        try:
            response = await self._client.post(
                f"{_base(variant)}/v1/search",
                data=form,
                files={"image": ("photo", search.content, search.media_type)},
                headers=_PREVIEW_HEADERS,
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


def side_by_side(answers: Sequence[VersionAnswer]) -> list[VersionAnswer]:
    """The same answers, each hit with its position in the others."""
    places = [{hit.item_id: hit.position for hit in answer.hits} for answer in answers]
    compared = []
    for number, answer in enumerate(answers):
        others = [
            (other.model_version, places[index])
            for index, other in enumerate(answers)
            if index != number and not other.problem
        ]
        hits = [_with_place(hit, others) for hit in answer.hits]
        compared.append(dataclasses.replace(answer, hits=hits))
    return compared


def _with_place(hit: ShownHit, others: Sequence[tuple[str, Mapping[str, int]]]) -> ShownHit:
    texts = [
        f"{ordinal(places[hit.item_id])} in {version}" if hit.item_id in places else f"not in {version}"
        for version, places in others
    ]
    return dataclasses.replace(hit, elsewhere=", ".join(texts))


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th, 11th …"""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


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
