"""The running experiment: its versions, their shares of the users, and its state."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args
from urllib.parse import urlsplit

from pydantic import ConfigDict, with_config

from immr.errors import ExperimentError
from immr.types import ALL_ROLES, Role

State = Literal["running", "shadow", "stopped"]
"""Shadow: all users get the champion; the challenger gets copies of their searches."""
Kind = Literal["ab", "interleave"]
"""Interleave: the challenger's share of the users sees items of both variants in one answer."""

CHAMPION: Role = "champion"
CHALLENGER: Role = "challenger"
DIRECT = "direct"
"""The variant of a search that came without a gateway."""
PREVIEW = "preview"
"""The variant of a search that is shown but never counted."""
HOLDOUT = "holdout"
"""The variant of users who get the champion in every test."""
ENDED = "ended"
"""The variant of users whose challenger has left a running test: they get the champion and are not compared."""
_FILE = ConfigDict(extra="forbid", strict=True)
_MOMENTS = ("started", "stopped_at")
MIN_DAYS = 7.0
"""Days of the week differ, so a test lasts a week at least."""


@with_config(_FILE)
@dataclass(frozen=True, slots=True)
class Variant:
    """One side of the experiment: a model version, its address, and its share of the users."""

    name: Role
    url: str
    model_version: str
    weight: float  # the name in the file: the variant's share of the users, 0 to 1
    ended: bool = False  # this challenger has left the test: its users get the champion

    def __post_init__(self) -> None:
        if self.name not in ALL_ROLES:
            raise ExperimentError(
                f"a variant is named {self.name!r}: name it champion, challenger, or challenger-2 to challenger-9"
            )
        if not _is_address(self.url):
            raise ExperimentError(
                f"variant {self.name!r} has the url {self.url!r}: give an address like http://127.0.0.1:3001"
            )
        if not self.model_version:
            raise ExperimentError(f"variant {self.name!r} has no model_version: give one like immr-3")
        if not 0 <= self.weight <= 1:
            raise ExperimentError(
                f"variant {self.name!r} has weight {self.weight}: give a share between 0 and 1"
            )


@with_config(_FILE)
@dataclass(frozen=True, slots=True)
class Holdout:
    """Users who get the champion in every test, chosen by a salt that outlives the tests."""

    share: float  # of all users, 0 to 1; the weights of a test are shares of the others
    salt: str
    since: datetime  # since then none of them has seen a challenger

    def __post_init__(self) -> None:
        if not 0 < self.share < 1 or not self.salt:
            raise ExperimentError(
                f"the holdout has a share of {self.share} and the salt {self.salt!r}: give a share above 0 and "
                "below 1, and a salt"
            )
        _require_zone("since", self.since)


@with_config(_FILE)
@dataclass(frozen=True, slots=True)
class Experiment:
    """A champion and any number of challengers. Each test has its own name, salt and `started`.

    Raises:
        ExperimentError: a field is invalid; the message names it and what to do.
    """

    name: str
    salt: str
    variants: tuple[Variant, ...]
    state: State = "running"
    started: datetime | None = None  # start of the readout; changes with the weights
    previous: Variant | None = None  # the previous champion, for a rollback; gets no users
    kind: Kind = "ab"
    planned_users: int | None = None  # of the champion and one challenger, from the plan at the start
    ramp: tuple[float, ...] = ()  # each challenger's next shares, each larger than the one before
    ramp_every_s: int | None = None  # how long each share lasts before the next
    holdout: Holdout | None = None
    stopped_at: datetime | None = None  # end of the readout; None if not stopped, or at an unknown time
    min_days: float = MIN_DAYS  # of events, before the champion is replaced or confirmed; 0: no minimum

    def __post_init__(self) -> None:
        if not self.name or not self.salt:
            raise ExperimentError("a test needs a name and a salt: give both, the salt new for each test")
        for name, known in (("state", get_args(State)), ("kind", get_args(Kind))):
            if (value := getattr(self, name)) not in known:
                raise ExperimentError(f"the test's {name} is {value!r}: give one of {', '.join(known)}")
        for name in _MOMENTS:
            if (moment := getattr(self, name)) is not None:
                _require_zone(name, moment)
        if self.planned_users is not None and self.planned_users < 1:
            raise ExperimentError(
                f"the test has planned_users {self.planned_users}: give at least 1, or leave it out"
            )
        if not 0 <= self.min_days < math.inf:
            raise ExperimentError(f"the test has min_days {self.min_days}: give at least 0, such as 7")
        self._check_ramp()
        self._check_variants()

    def _check_variants(self) -> None:
        names = [variant.name for variant in self.variants]
        if len(set(names)) < len(names):
            raise ExperimentError(f"two variants have the same name ({names}): give each its own")
        if CHAMPION not in names or self.champion.ended:
            raise ExperimentError(f"the variants {names} have no champion: add one")
        if self.kind == "interleave" and len(self.challengers) > 1:
            raise ExperimentError(
                f"{len(self.challengers)} challengers cannot be interleaved: interleave one, or run an A/B test"
            )
        total = math.fsum(variant.weight for variant in self.variants)
        if not math.isclose(total, 1, abs_tol=1e-6):
            raise ExperimentError(f"the variants' weights sum to {total:g}: make them sum to 1")

    def _check_ramp(self) -> None:
        shares = [float(max((each.weight for each in self.challengers), default=0.0)), *self.ramp]
        below = 1 / max(len(self.challengers), 1)
        if any(not 0 < share < below for share in self.ramp) or any(map(float.__ge__, shares, shares[1:])):
            raise ExperimentError(
                f"the ramp is {', '.join(f'{share * 100:.4g} %' for share in shares)} for each challenger: give "
                f"growing shares below {below * 100:.4g} %, so that the champion keeps some users"
            )
        if self.ramp and (self.ramp_every_s is None or self.ramp_every_s < 1):
            raise ExperimentError(
                f"the ramp's steps last {self.ramp_every_s} seconds: give at least 1 second for each"
            )

    @property
    def champion(self) -> Variant:
        """The variant of all users outside the test."""
        return next(variant for variant in self.variants if variant.name == CHAMPION)

    @property
    def challengers(self) -> tuple[Variant, ...]:
        """All variants under test, also those that have left it."""
        return tuple(variant for variant in self.variants if variant.name != CHAMPION)

    @property
    def remaining(self) -> tuple[Variant, ...]:
        """The challengers that have not left the test."""
        return tuple(variant for variant in self.challengers if not variant.ended)

    @property
    def challenger(self) -> Variant | None:
        """The first challenger, the only one of an A/B test; None if nothing is tested."""
        return next(iter(self.challengers), None)

    def variant(self, name: str) -> Variant:
        """The variant of this name.

        Raises:
            ExperimentError: There is none.
        """
        for variant in self.variants:
            if variant.name == name:
                return variant
        raise ExperimentError(f"test {self.name} has no variant {name!r}")


def _is_address(url: str) -> bool:
    """Whether this is an HTTP address to which paths can be appended."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        (host or "").encode("idna")
    except ValueError:
        return False
    is_plain = url.isascii() and url.isprintable() and not set(url) & set(" ?#@\\")
    return parts.scheme in ("http", "https") and bool(host) and port != 0 and is_plain


def _require_zone(name: str, moment: datetime) -> None:
    if moment.tzinfo is None:
        raise ExperimentError(f"`{name}` {moment.isoformat()} has no time zone: end it with +00:00")
