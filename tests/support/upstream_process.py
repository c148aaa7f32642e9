"""A small server with the search API, in a process, for tests of its callers.

It has no model: it ranks a fixed catalogue by a hash of the photo and its box, item or words. The first hit of a JPEG
is exact, and nothing fits a PNG. A JPEG has two regions, a PNG none. With `--hangs` a search is only answered after a
POST to `/go`.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import io
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.patience import until

CATEGORIES = ("Fruit/Apple", "Fruit/Pear", "Packages/Milk", "Vegetables/Pepper")
TITLES = (
    "Pink Lady", "Golden Delicious", "Granny Smith", "Conference Pear", "Anjou Pear", "Arla Standard Milk",
    "Oatly Oat Drink", "Garant Ecological Medium Fat Milk", "Red Bell Pepper", "Green Bell Pepper",
    "Yellow Bell Pepper", "Kaiser Pear",
)  # fmt: skip

REGIONS = [{"box": "0.05,0.1,0.4,0.5", "score": 0.81}, {"box": "0.5,0.3,0.45,0.6", "score": 0.64}]


def catalogue() -> list[dict[str, Any]]:
    return [
        {
            "item_id": f"item-{number}",
            "title": title,
            "category": CATEGORIES[number % len(CATEGORIES)],
            "features": {
                "price": 1.5 + number,
                "category": CATEGORIES[number % len(CATEGORIES)],
                "impressions_7d": 100 * number,
                "clicks_7d": 7 * number,
                "ctr_7d": 0.02 * number,
            },
        }
        for number, title in enumerate(TITLES)
    ]


def picture(number: int, side_px: int = 160) -> bytes:
    """A circle on a pale background, as JPEG."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (side_px, side_px), (244, 242, 238))
    colour = tuple(60 + int(byte) % 170 for byte in hashlib.sha256(str(number).encode()).digest()[:3])
    inset = side_px // 6 + number
    ImageDraw.Draw(image).ellipse((inset, inset, side_px - inset, side_px - inset), fill=colour)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG")
    return buffer.getvalue()


def rank(photo: bytes, version: str, k: int, category: str | None) -> list[dict[str, Any]]:
    def cosine(item: dict[str, Any]) -> float:
        digest = hashlib.sha256(version.encode() + photo + item["item_id"].encode()).digest()
        return 0.4 + 0.5 * digest[0] / 255

    def hit(item: dict[str, Any]) -> dict[str, Any]:
        parts = {"cosine": cosine(item), "ctr": 0.05 * item["features"]["ctr_7d"]}
        return item | {
            "score": sum(parts.values()),
            "score_parts": parts,
            "image_url": f"/v1/items/{item['item_id']}/image",
            "click_token": f"token-{item['item_id']}",
        }

    kept = [item for item in catalogue() if category is None or item["category"].startswith(category)]
    return sorted(map(hit, kept), key=lambda answer: -answer["score"])[:k]


def one_of_each(hits: list[dict[str, Any]], group_by: str | None) -> list[dict[str, Any]]:
    if group_by is None:
        return hits
    groups: dict[str, list[dict[str, Any]]] = {}
    for hit in hits:
        groups.setdefault(hit[group_by], []).append(hit)
    return [first | {"group": group, "members": others} for group, (first, *others) in groups.items()]


def serve(port: int, variant: str, version: str, busy: int, degraded: bool, hangs: bool) -> None:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    seen: dict[str, Any] = {"searches": [], "events": [], "refused": 0}
    free = asyncio.Event()
    if not hangs:
        free.set()

    async def search(request: Request) -> Response:
        if seen["refused"] < busy:
            seen["refused"] += 1
            return JSONResponse({"title": "busy", "detail": "try again"}, 503, {"retry-after": "0"})
        form = await request.form()
        photo = await form["image"].read() if "image" in form else b""
        if photo and not photo.startswith((b"\xff\xd8", b"\x89PNG")):
            problem = {
                "title": "bad image",
                "status": 422,
                "detail": "That is not a JPEG, PNG or WebP picture.",
            }
            return JSONResponse(problem, 422, media_type="application/problem+json")
        fields = {name: value for name, value in form.items() if name != "image"}
        seen["searches"].append(fields | {"preview": request.headers.get("x-immr-variant", "")})
        await free.wait()
        words = "".join(str(fields.get(name, "")) for name in ("item_id", "text", "box"))
        query = photo + words.encode()
        hits = rank(query, version, int(fields.get("k", 10)), fields.get("category"))
        hits = one_of_each(hits, fields.get("group_by"))
        answer = {"query_id": f"q{len(seen['searches'])}", "variant": variant, "model_version": version}
        match = "exact" if photo.startswith(b"\xff\xd8") else "none" if photo else None
        answer |= {"match": match, "hits": [{**hits[0], "match": match}, *hits[1:]] if hits else []}
        return JSONResponse(answer | {"degraded": degraded, "took_ms": 12.3})

    async def regions(request: Request) -> Response:
        form = await request.form()
        photo = await form["image"].read()
        if list(form) != ["image"] or not photo.startswith((b"\xff\xd8", b"\x89PNG")):
            return JSONResponse({"title": "bad image", "status": 422, "detail": "Send one photo."}, 422)
        proposed = REGIONS if photo.startswith(b"\xff\xd8") else []
        return JSONResponse({"regions": proposed, "took_ms": 1.0})

    async def events(request: Request) -> Response:
        seen["events"].append((await request.json())["events"])
        return JSONResponse({"recorded": len(seen["events"][-1])})

    async def image(request: Request) -> Response:
        known = {item["item_id"]: number for number, item in enumerate(catalogue())}
        number = known.get(request.path_params["item_id"])
        if number is None:
            return JSONResponse({"title": "no such item"}, 404)
        return Response(picture(number), media_type="image/jpeg")

    async def go(request: Request) -> Response:
        free.set()
        return Response()

    routes = [
        Route("/go", go, methods=["POST"]),
        Route("/v1/search", search, methods=["POST"]),
        Route("/v1/regions", regions, methods=["POST"]),
        Route("/v1/events", events, methods=["POST"]),
        Route("/v1/items/{item_id}/image", image),
        Route("/seen", lambda request: JSONResponse(seen)),
        Route("/health/live", lambda request: Response()),
    ]
    uvicorn.run(Starlette(routes=routes), host="127.0.0.1", port=port, log_level="warning", access_log=False)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def await_port(process: subprocess.Popen[bytes], port: int, timeout_s: float = 60) -> None:
    """Waits until the process listens on the port."""

    def listens() -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"the process on port {port} ended with {process.returncode}")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    until(listens, timeout_s, context=lambda: f"nothing listens on port {port}")


@contextmanager
def process_on(port: int, *command: str, env: dict[str, str] | None = None) -> Iterator[str]:
    """Runs a command that listens on a port; yields its URL."""
    process = subprocess.Popen(command, env=env)
    try:
        await_port(process, port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=60)


@contextmanager
def upstream(variant: str = "champion", version: str = "immr-1", *flags: str) -> Iterator[str]:
    """Runs the server; yields its URL."""
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "tests.support.upstream_process",
        f"--port={port}",
        f"--variant={variant}",
        f"--version={version}",
    ]
    with process_on(port, *command, *flags) as url:
        yield url


def seen_by(url: str) -> dict[str, Any]:
    import httpx

    answer: dict[str, Any] = json.loads(httpx.get(f"{url}/seen", trust_env=False).content)
    return answer


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--variant", required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--busy", type=int, default=0)
    parser.add_argument("--degraded", action="store_true")
    parser.add_argument("--hangs", action="store_true")
    options = parser.parse_args()
    serve(options.port, options.variant, options.version, options.busy, options.degraded, options.hangs)
