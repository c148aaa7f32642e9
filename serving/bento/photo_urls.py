"""Photos that a search names by URL: fetched where the server allows it, from public addresses only."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor

from immr.data.mapping.shop_map import PictureRules
from immr.data.pictures.requests import PictureRequests, RequestFailedError
from serving.wire.application import MAX_BODY_BYTES
from serving.wire.problems import FieldProblem, invalid_fields

log = logging.getLogger(__name__)

_AT_ONCE = 16
TIMEOUT_S = 2.0  # less than the gateway waits for a variant
RULES = PictureRules(parallel=_AT_ONCE, timeout_s=TIMEOUT_S, tries=1, max_mb=MAX_BODY_BYTES / 1e6)


class PhotoUrls:
    """Fetches photos in threads of its own, so that slow servers do not hold up other searches."""

    def __init__(self, rules: PictureRules = RULES) -> None:
        """`rules` bound a request's time and size."""
        self._requests = PictureRequests(rules)
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="photo-url")

    async def fetch(self, url: str) -> memoryview:
        """The content behind a URL.

        Raises:
            ProblemError: 422. The reason is in the log only, because it could reveal the private network.
        """
        loop = asyncio.get_running_loop()
        try:
            return memoryview(await loop.run_in_executor(self._threads, self._requests.read, url))
        except RequestFailedError as failed:
            log.info("a photo was not fetched: %s", failed)
            raise refused(
                f"The photo cannot be fetched. Its address must be public and answer within {TIMEOUT_S:g} s, with "
                "at most 10 MB"
            ) from failed

    def close(self) -> None:
        """Close the connections."""
        self._threads.shutdown()
        self._requests.close()


def refused(message: str) -> Exception:
    """422 for the field `image_url`."""
    return invalid_fields([FieldProblem(field="image_url", message=message)])
