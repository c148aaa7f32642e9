"""Requests for pictures from asyncio, in separate threads."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from immr.data.mapping.shop_map import PictureRules
from immr.data.pictures.remote.requests import PictureRequests, RequestFailedError


class AsyncPictureRequests:
    """`PictureRequests` for a server: a slow picture takes none of the threads that other requests need.

    Args:
        rules: They bound the size of a picture, the time until it is there, and how many are read at a time.

    Raises:
        ContractError: A file with a header's value cannot be read.
    """

    def __init__(self, rules: PictureRules) -> None:
        self._timeout_s = rules.timeout_s
        self._requests = PictureRequests(rules)
        self._threads = ThreadPoolExecutor(rules.parallel, thread_name_prefix="picture-url")

    async def read(self, url: str) -> bytes:
        """The content behind a URL or where it redirects to.

        Raises:
            RequestFailedError: With the reason.
        """
        loop = asyncio.get_running_loop()
        try:
            # bounds also the wait for a thread and the look-up of the name
            async with asyncio.timeout(self._timeout_s):
                return await loop.run_in_executor(self._threads, self._requests.read, url)
        except TimeoutError as error:
            raise RequestFailedError(f"not complete after {self._timeout_s:g} s", retried=True) from error

    def close(self) -> None:
        """Close the connections."""
        self._threads.shutdown()
        self._requests.close()
