"""Pictures in object stores: `s3://bucket/key`, `gs://bucket/key`.

They are read with the credentials of the tables. Only places that the mapping names are read, so that a row of a
table cannot make IMMR read whatever else these credentials can.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from immr.data.mapping.shop_map import PictureRules
from immr.data.pictures.remote.requests import RequestFailedError
from immr.data.sources.locations import Location
from immr.errors import ContractError, DataError

_OUTAGE = re.compile(r"HTTP status 5\d\d|NETWORK_CONNECTION|SERVICE_UNAVAILABLE|INTERNAL_FAILURE|SLOW_DOWN")
"""In Arrow's messages: the store did not answer, or with a server error."""
_DENIED = re.compile(
    r"HTTP status 40[013]|ACCESS_DENIED|EXPIRED|INVALID_CLIENT_TOKEN|PERMISSION_DENIED|UNAUTHENTICATED"
)


def is_object(uri: str) -> bool:
    """Whether a picture is in an object store."""
    return uri.startswith(("s3://", "gs://"))


def is_in(uri: str, buckets: Sequence[str]) -> bool:
    """Whether a picture is below one of these places, such as `s3://bucket` or `s3://bucket/photos`."""
    if ".." in uri.split("/"):  # some stores resolve it
        return False
    return is_object(uri) and any(uri.startswith(f"{place.rstrip('/')}/") for place in buckets)


class Buckets:
    """Reads pictures of object stores; thread-safe."""

    def __init__(self, rules: PictureRules) -> None:
        self._rules, self._opened = rules, dict[str, Location]()
        self._read_before = dict[str, str]()  # of each bucket, a picture

    def read(self, uri: str) -> bytes:
        """The content of an object.

        Raises:
            RequestFailedError: with the reason.
            DataError: The credentials have ended: nothing can be read that could be read before.
        """
        if not is_in(uri, self._rules.buckets):
            scheme, _, rest = uri.partition("://")
            bucket = f"{scheme}://{rest.partition('/')[0]}"
            raise RequestFailedError(
                f'in no place that the mapping names: add buckets = ["{bucket}"] under [pictures] if it may be read',
                retried=False,
            )
        bucket = "/".join(uri.split("/")[:3])
        try:
            content = self._content(uri)
            self._read_before.setdefault(bucket, uri)
            return content
        except ContractError as error:  # Arrow has tried several times
            if _DENIED.search(str(error)):
                self._check_credentials(self._read_before.get(bucket))
            is_outage = _OUTAGE.search(str(error)) is not None
            raise RequestFailedError(str(error), retried=False, is_outage=is_outage) from error

    def _check_credentials(self, read_before: str | None) -> None:
        """Stops if they no longer read what they did, instead of losing every other picture."""
        if read_before is None:
            return
        try:
            self._content(read_before)
        except (ContractError, RequestFailedError) as error:
            if _DENIED.search(str(error)):
                raise DataError(
                    f"{read_before} could be read and is now denied, so the credentials have probably expired: renew "
                    "them and run this again, which fetches only what is missing"
                ) from error

    def _content(self, uri: str) -> bytes:
        scheme, _, rest = uri.partition("://")
        bucket, _, key = rest.partition("/")
        if key.endswith("/"):  # stores have no folders
            raise RequestFailedError("no such object", retried=False)
        root = f"{scheme}://{bucket}"
        if root not in self._opened:
            self._opened[root] = Location.of(root)
        found = (self._opened[root] / key).read_object(self._rules.max_mb * 1e6)  # a key may have any sign
        if found is None:
            raise RequestFailedError("no such object", retried=False)
        return found
