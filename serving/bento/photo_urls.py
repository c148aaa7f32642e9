"""Photos that a search names by URL: fetched where the server allows it, from public addresses only."""

from __future__ import annotations

import logging

from immr.data.mapping.shop_map import PictureRules
from immr.data.pictures.remote.async_requests import AsyncPictureRequests
from immr.data.pictures.remote.requests import RequestFailedError
from serving.wire.application import MAX_BODY_BYTES
from serving.wire.problems import FieldProblem, ProblemError, invalid_fields

log = logging.getLogger(__name__)

_TIMEOUT_S = 2.0  # less than the gateway waits for a variant
RULES = PictureRules(parallel=16, timeout_s=_TIMEOUT_S, tries=1, max_mb=MAX_BODY_BYTES / 1e6)


class PhotoUrls:
    """Fetches photos; slow servers take no thread from other searches.

    A search counts as in progress while its photo is fetched, so many slow ones cause others to be refused (429).
    """

    def __init__(self, rules: PictureRules = RULES) -> None:
        """`rules` bound the time and size of a request, and how many are made at a time."""
        self._timeout_s = rules.timeout_s
        self._requests = AsyncPictureRequests(rules)

    async def fetch(self, url: str) -> memoryview:
        """The content behind a URL.

        Raises:
            ProblemError: 422. The reason is in the log only, because it could reveal the private network.
        """
        try:
            return memoryview(await self._requests.read(url))
        except RequestFailedError as failed:
            log.info("a photo was not fetched: %r", failed)
            raise refused(
                "The photo cannot be fetched. Its address must be public and answer within "
                f"{self._timeout_s:g} s, with at most 10 MB"
            ) from failed

    def close(self) -> None:
        """Close the connections."""
        self._requests.close()


def refused(message: str) -> ProblemError:
    """422 for the field `image_url`."""
    return invalid_fields([FieldProblem(field="image_url", message=message)])
