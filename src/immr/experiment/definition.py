"""The running experiment: a JSON file that the gateway watches and the readout reads."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from immr.errors import ExperimentError
from immr.storage.atomic import write_atomically
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
_MOMENTS = ("started", "stopped_at")
MIN_DAYS = 7.0
"""Days of the week differ, so a test lasts a week at least."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One side of the experiment: a model version, its address, and its share of the users."""

    name: Role
    url: str
    model_version: str
    weight: float  # share of the users, 0 to 1
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


def save(experiment: Experiment, path: Path) -> None:
    """Write the file atomically, so that a watching gateway never reads half of it.

    Fields with their default are left out, so that gateways of the previous release can read the file too, unless
    it uses what is new.
    """
    content = _without_defaults(experiment)
    content["variants"] = [_without_defaults(each) for each in experiment.variants]
    if experiment.previous is not None:
        content["previous"] = _without_defaults(experiment.previous)
    write_atomically(path, json.dumps(content, indent=1, default=datetime.isoformat) + "\n")


def _without_defaults(record: Experiment | Variant) -> dict[str, Any]:
    values = asdict(record)
    return {
        field.name: values[field.name]
        for field in fields(record)
        if getattr(record, field.name) != field.default
    }


def load(path: Path) -> Experiment:
    """Read and check an experiment file.

    Raises:
        ExperimentError: the file is missing, is not JSON, or is not a valid experiment.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        json.dumps(content, ensure_ascii=False).encode()  # refuses lone surrogates
        return _experiment(content)
    except OSError as error:
        raise ExperimentError(
            f"there is no test in {path} ({error.strerror}): deploy a version first, then run "
            "`immr experiment start`"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ExperimentError(
            f"{path} is not JSON ({error}): correct it, or run `immr experiment start`"
        ) from error
    except ExperimentError as error:
        raise ExperimentError(f"{path}: {error}") from error


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


def _experiment(content: Any) -> Experiment:
    values = _fields(content, Experiment, "a test")
    _require_text(values, ("name", "salt"), "a test")
    variants = values.get("variants")
    if not isinstance(variants, list):
        raise ExperimentError(
            "`variants` is not a list: give the champion, and the challengers if there are any"
        )
    values["variants"] = tuple(sorted(map(_variant, variants), key=lambda each: ALL_ROLES.index(each.name)))
    versions = [each.model_version for each in values["variants"] if not each.ended]
    if len(set(versions)) < len(versions):
        raise ExperimentError(f"variants share a version ({versions}): `immr experiment aa` deploys a copy")
    if values.get("previous") is not None:
        values["previous"] = _variant(values["previous"])
    for name in _MOMENTS:
        if values.get(name) is not None:
            values[name] = _moment(name, values[name])
    if values.get("holdout") is not None:
        values["holdout"] = _holdout(values["holdout"])
    for name in ("planned_users", "ramp_every_s"):
        number = values.get(name)
        if number is not None and (isinstance(number, bool) or not isinstance(number, int)):
            raise ExperimentError(f"`{name}` is {number!r:.100}: give a whole number")
    if not _is_number(values.get("min_days", 0)):
        raise ExperimentError(f"`min_days` is {values['min_days']!r:.100}: give a number")
    ramp = values.get("ramp", [])
    if not isinstance(ramp, list) or not all(isinstance(share, float) for share in ramp):
        raise ExperimentError(f"`ramp` is {ramp!r:.100}: give a list of shares like 0.25")
    values["ramp"] = tuple(ramp)
    return Experiment(**values)


def _variant(content: Any) -> Variant:
    values = _fields(content, Variant, "a variant")
    if not _is_number(values["weight"]):
        raise ExperimentError(f"variant {values['name']!r} has weight {values['weight']!r}: give a number")
    if not isinstance(values.get("ended", False), bool):
        raise ExperimentError(f"variant {values['name']!r} has ended {values['ended']!r}: give true or false")
    _require_text(values, ("name", "url", "model_version"), "a variant")
    return Variant(**values)


def _holdout(content: Any) -> Holdout:
    values = _fields(content, Holdout, "a holdout")
    if not _is_number(values["share"]):
        raise ExperimentError(f"the holdout has a share of {values['share']!r}: give a number")
    _require_text(values, ("salt",), "a holdout")
    return Holdout(**values | {"since": _moment("since", values["since"])})


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _require_text(values: Mapping[str, Any], names: Sequence[str], what: str) -> None:
    for name in names:
        if not isinstance(values[name], str):
            raise ExperimentError(f"{what}'s {name} is {values[name]!r:.100}: give text")


def _fields(
    content: Any, record: type[Variant] | type[Holdout] | type[Experiment], what: str
) -> dict[str, Any]:
    if not isinstance(content, Mapping):
        raise ExperimentError(f"{what} is not a JSON object: {content!r:.100}")
    known = {field.name for field in fields(record)}
    required = {field.name for field in fields(record) if field.default is MISSING}
    if missing := sorted(required - set(content)):
        raise ExperimentError(f"{what} lacks {', '.join(missing)}: add it")
    if unknown := sorted(set(content) - known):
        raise ExperimentError(
            f"{what} has no {', '.join(unknown)}: its fields are {', '.join(sorted(known))}"
        )
    return dict(content)


def _moment(name: str, text: Any) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise ExperimentError(f"`{name}` is {text!r}: give a time like 2024-05-01T12:00:00+00:00") from error


def _require_zone(name: str, moment: datetime) -> None:
    if moment.tzinfo is None:
        raise ExperimentError(f"`{name}` {moment.isoformat()} has no time zone: end it with +00:00")
