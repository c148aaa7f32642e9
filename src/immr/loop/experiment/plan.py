"""Plan: how many users and days a test would need. Changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from immr.errors import ExperimentError
from immr.experiment import changes
from immr.experiment.definition import CHAMPION
from immr.experiment.file import load
from immr.machine.wording import counted

if TYPE_CHECKING:
    from tea_tasting.aggr import Aggregates

    from immr.readout.event_views import Parquet
    from immr.wiring import Parts

_DAY_S = 86_400.0


@dataclass(frozen=True)
class Needed:
    """The users and days that a test needs to detect a lift; the users are those of champion and challenger together.

    Attributes:
        lift: Relative, 0.05 for + 5 %.
        users: With the always-valid interval, planned for this number of users.
        days: Until they have come, at the pace of the last two weeks; None if the log covers less than a day.
        users_one_look: With the interval that is valid for one look, at the end.
        days_one_look: Until these have come.
    """

    lift: float
    users: int
    days: float | None
    users_one_look: int
    days_one_look: float | None


@dataclass(frozen=True)
class Planned:
    """A plan, and what it was computed from.

    Attributes:
        ctr: The champion's, in the last two weeks.
        users: All users who searched in that time.
        users_per_day: The same per day, since the first search of that time; None within a day of it.
    """

    champion: str
    ctr: float
    users: int
    users_per_day: float | None
    share: float
    power: float
    needed: tuple[Needed, ...]

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON values."""
        return asdict(self)


def plan(
    parts: Parts, lifts: Sequence[float], share: float = 0.5, power: float = 0.8, challengers: int = 1
) -> Planned:
    """How many users and days a test of the deployed champion would need, by the lift it should find.

    It assumes the clicks of the champion and the pace of new users in the last two weeks. Users who come back make
    each user's CTR more certain, so a test may end earlier; but fewer of its later users are new. Users of the
    holdout are in no test.

    Args:
        parts: The process's adapters.
        lifts: Relative lifts of the CTR to find: 0.05 for + 5 %.
        share: Each challenger's share of the users.
        power: Probability to find the lift if it is there.
        challengers: Their number; the 5 % is divided among them.

    Raises:
        ExperimentError: Nothing is deployed, the event log has too few of the champion's clicks, or a value is out of
            range.
    """
    from immr.readout import power as needs
    from immr.readout.comparison import CTR, Look

    changes.check_share(share, challengers)
    champion = next((each for each in parts.deployer.current() if each.role == "champion"), None)
    if champion is None:
        raise ExperimentError(
            "nothing is deployed, so there is nothing to plan with: run `immr deploy` first"
        )
    moments, users, days = _moments(parts, (champion.version_id, champion.url))
    of_two = _share_of_two(share, challengers)
    look = Look().shared_by(challengers)
    per_day = users / days if days >= 1 else None
    tested = 1 - _held_out(parts)
    # of the champion and one challenger
    pace = per_day and per_day * tested * (1 - share * (challengers - 1))
    found = []
    for lift in lifts:
        one_look = needs.plan(CTR, moments, lift, of_two, power, look)
        any_look = needs.planned_users(CTR, moments, lift, of_two, power, look.confidence)
        if one_look is None or any_look is None:
            raise ExperimentError(
                f"the event log has too few clicks on {champion.version_id} in the last two weeks to plan with "
                f"({counted(users, 'user')} searched): wait for more; a test that starts now is planned for 10,000 "
                "users"
            )
        once = one_look.users_one_look
        found.append(Needed(lift, any_look, pace and any_look / pace, once, pace and once / pace))
    ctr = moments.mean(CTR.numerator) / moments.mean(CTR.denominator)
    return Planned(champion.version_id, float(ctr), users, per_day, share, power, tuple(found))


def planned_users(parts: Parts, champion: tuple[str, str], share: float, challengers: int = 1) -> int | None:
    """Users of the champion and one challenger that a test needs to find the planned effect.

    They are computed from the champion's last two weeks.

    Args:
        parts: The process's adapters.
        champion: Its model version and URL.
        share: Each challenger's share of the users.
        challengers: Their number.

    Returns:
        None if the event log has too few of the champion's clicks.
    """
    from immr.readout import power
    from immr.readout.comparison import CTR, Look
    from immr.readout.readout import PLANNED_EFFECT

    return power.planned_users(
        CTR,
        _moments(parts, champion)[0],
        PLANNED_EFFECT,
        share=_share_of_two(share, challengers),
        confidence=Look().shared_by(challengers).confidence,
    )


def _share_of_two(share: float, challengers: int) -> float:
    """A challenger's share of its own users and the champion's."""
    return share / (1 - share * (challengers - 1))


def _held_out(parts: Parts) -> float:
    """The share of all users who are in the holdout."""
    file = parts.settings.experiment_file
    holdout = load(file).holdout if file.is_file() else None
    return holdout.share if holdout else 0.0


def _since() -> datetime:
    from immr.readout.readout import PRE_PERIOD

    return datetime.now(UTC) - PRE_PERIOD


def _moments(parts: Parts, champion: tuple[str, str]) -> tuple[Aggregates, int, float]:
    """Of the last two weeks: sums over the champion's users, all users, and days since the first of them searched."""
    from immr.events.sink import on_disk
    from immr.readout.sums import sum_up_queries
    from immr.readout.user_moments import aggregate

    alone = changes.begin(champion, {}, 0.0, datetime.now(UTC))
    with on_disk(parts.events, _since(), "queries", "searches") as files:
        sums = sum_up_queries(files["queries"], alone, files["searches"], ranks=lambda *_: ())
        return aggregate(sums.users, CHAMPION), *_pace(files["searches"])


def _pace(searches: Parquet) -> tuple[int, float]:
    """Users, and the days since the first of them searched."""
    from immr.storage.database import database

    with database() as base:
        [(users, first_s)] = base.execute(
            "SELECT count(DISTINCT user_id), epoch(min(ts)) FROM read_parquet($path)", {"path": searches.path}
        ).fetchall()
    days = (datetime.now(UTC).timestamp() - first_s) / _DAY_S if users else 0.0
    return int(users), days
