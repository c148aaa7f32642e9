"""Changes of an experiment: begin, ramp, end, stop, promote, roll back. Pure functions; each returns a new one."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from immr.errors import ExperimentError
from immr.experiment.assignment import BUCKETS
from immr.experiment.definition import CHALLENGER, CHAMPION, MIN_DAYS, Experiment, Holdout, Kind, Variant
from immr.types import Role


def begin(
    champion: tuple[str, str],
    challengers: Mapping[Role, tuple[str, str]],
    share: float,
    now: datetime,
    kind: Kind = "ab",
    planned_users: int | None = None,
    ramp: Sequence[float] = (),
    ramp_every_s: int | None = None,
    min_days: float = MIN_DAYS,
) -> Experiment:
    """A new experiment with its own name and salt, so that users are assigned independently of earlier ones.

    Args:
        champion: Model version and URL.
        challengers: The same by variant; if empty, all users get the champion and nothing is compared.
        share: Each challenger's share of the users.
        now: Start of the experiment.
        kind: "ab" shows these users the challenger's items, "interleave" the items of both versions.
        planned_users: Users of the champion and one challenger that the experiment is planned for (`readout.power`).
        ramp: Each challenger's next shares.
        ramp_every_s: How long each share lasts.
        min_days: Days of events before the champion is replaced or confirmed.

    Raises:
        ExperimentError: the shares leave the champion no users, or the ramp does not grow.
    """
    version, url = champion
    stamp = now.strftime("%Y%m%dT%H%M%S") + f"{now.microsecond // 1000:03d}"
    if not challengers:
        alone = Variant(CHAMPION, url, version, 1.0)
        return Experiment(f"{version}-alone", f"{version}-{stamp}", (alone,), started=now)
    check_share(share, len(challengers))
    tested = [Variant(role, address, tested, share) for role, (tested, address) in challengers.items()]
    against = "against" if kind == "ab" else "interleaved-with"
    name = f"{'-and-'.join(each.model_version for each in tested)}-{against}-{version}-{stamp}"
    begun = Experiment(
        name,
        name,
        (Variant(CHAMPION, url, version, 1 - share * len(tested)), *tested),
        kind=kind,
        started=now,
        planned_users=planned_users,
        ramp=tuple(ramp),
        ramp_every_s=ramp_every_s,
        min_days=min_days,
    )
    for later in begun.ramp:
        check_buckets(later * len(tested))
    return begun


def shadow(champion: tuple[str, str], challenger: tuple[str, str], now: datetime) -> Experiment:
    """The champion serves all users; the challenger gets copies of searches, and nobody sees its answers."""
    begun = begin(champion, {}, 0.0, now)
    version, url = challenger
    variants = (*begun.variants, Variant(CHALLENGER, url, version, 0.0))
    return replace(begun, name=f"{version}-shadows-{champion[0]}", variants=variants, state="shadow")


def ramp(experiment: Experiment, share: float, now: datetime) -> Experiment:
    """Give each challenger this share of the users. The salt stays, so its users keep seeing it.

    The readout restarts, because users assigned under two different shares are not comparable.

    Raises:
        ExperimentError: no challenger gets users, or the new share is not larger.
    """
    challengers = experiment.challengers
    if not experiment.remaining or experiment.state != "running":
        raise ExperimentError(
            f"test {experiment.name} has no running challenger: run `immr experiment start` first"
        )
    check_share(share, len(challengers))
    before = max(each.weight for each in challengers)
    if share == before:
        raise ExperimentError(
            f"the challenger has {in_percent(before)} of the users already, so nothing was changed: ramp to a larger "
            "share"
        )
    if share < before:
        raise ExperimentError(
            f"the challenger has {in_percent(before)} of the users, so {in_percent(share)} would move some of "
            "them back to the champion: ramp to a larger share, or stop the test and start another"
        )
    champion = replace(experiment.champion, weight=1 - share * len(challengers))
    variants = (champion, *(replace(each, weight=share) for each in challengers))
    planned = experiment.planned_users
    if planned is not None:
        pairs = (before / (before + experiment.champion.weight), share / (share + champion.weight))
        planned = replan(planned, *pairs)
    left = tuple(later for later in experiment.ramp if later > share)
    return replace(experiment, variants=variants, started=now, planned_users=planned, ramp=left)


def due_share(experiment: Experiment, now: datetime) -> float | None:
    """The next share of a ramp whose current share has lasted long enough; else None."""
    if experiment.state != "running" or not experiment.ramp or experiment.started is None:
        return None
    lasts = timedelta(seconds=experiment.ramp_every_s or 0)
    return experiment.ramp[0] if now >= experiment.started + lasts else None


def replan(planned_users: int, share: float, new_share: float) -> int:
    """Planned users once the challenger's share of the pair has changed: an even split needs the fewest."""
    return math.ceil(planned_users * share * (1 - share) / (new_share * (1 - new_share)))


def stop(experiment: Experiment, now: datetime) -> Experiment:
    """All users get the champion; the experiment until now can still be read out. Only the first stop counts.

    If the clock was set back to before the start, the end is left open: the readout then takes the last query of a
    challenger's user instead of showing an empty test.
    """
    if experiment.state == "stopped":
        return experiment
    is_plausible = experiment.started is None or now >= experiment.started
    return replace(experiment, state="stopped", stopped_at=now if is_plausible else None)


def end(experiment: Experiment, losers: Collection[str], now: datetime) -> Experiment:
    """Send the users of these challengers to the champion; all other users keep their variant.

    Without a remaining challenger, the experiment is stopped.
    """
    if all(each.name in losers for each in experiment.remaining):
        return stop(experiment, now)
    variants = tuple(replace(each, ended=each.ended or each.name in losers) for each in experiment.variants)
    return replace(experiment, variants=variants)


def promote(experiment: Experiment, now: datetime, winner: str = CHALLENGER) -> Experiment:
    """Make a challenger the champion of all users.

    Raises:
        ExperimentError: there is no such challenger.
    """
    if not experiment.challengers:
        raise ExperimentError(f"test {experiment.name} has no challenger to promote")
    return _replace_champion(experiment, experiment.variant(winner), now)


def hold_out(experiment: Experiment, share: float, now: datetime) -> Experiment:
    """Give this share of all users the champion in every test; 0 ends the holdout.

    A larger share keeps its users, but the comparison with the others starts over.

    Raises:
        ExperimentError: the share is not between 0 and 1, or a test is running.
    """
    before = experiment.holdout
    if not 0 <= share < 1:
        raise ExperimentError(
            f"the holdout's share is {share}: give a share of at least 0 and below 1, like 0.05"
        )
    if share == (before.share if before else 0.0):
        return experiment
    if share:
        check_buckets(share)
    if experiment.state == "running" and experiment.challengers:
        raise ExperimentError(
            f"the holdout cannot change while {experiment.name} is running, because users would change their "
            "variant: stop the test first"
        )
    salt = before.salt if before else f"holdout-{now.isoformat()}"
    return replace(experiment, holdout=Holdout(share, salt, now) if share else None)


def roll_back(experiment: Experiment, now: datetime) -> Experiment:
    """Make the previous champion the champion of all users again; a second rollback undoes the first.

    Raises:
        ExperimentError: the previous champion is unknown.
    """
    if experiment.previous is None:
        stop = (
            "; to take users off a challenger, run `immr experiment stop`" if experiment.challengers else ""
        )
        raise ExperimentError(
            f"the champion before {experiment.champion.model_version} is unknown in test "
            f"{experiment.name}: only a version that was promoted can be rolled back{stop}"
        )
    return _replace_champion(experiment, experiment.previous, now)


def _replace_champion(experiment: Experiment, champion: Variant, now: datetime) -> Experiment:
    alone = begin((champion.model_version, champion.url), {}, 0.0, now)
    previous = replace(experiment.champion, weight=0.0)
    return replace(alone, previous=previous, holdout=experiment.holdout)


def check_share(share: float, challengers: int = 1) -> None:
    """Refuse a share per challenger that leaves no users to the champion.

    Raises:
        ExperimentError: The share is not above 0, or leaves the champion no users.
    """
    if challengers == 1 and not 0 < share < 1:
        raise ExperimentError(
            f"the challenger's share is {in_percent(share)}: give one above 0% and below 100%, such as 50%"
        )
    if not 0 < share * challengers < 1:
        raise ExperimentError(
            f"{challengers} challengers with {in_percent(share)} each leave the champion no users: give a share "
            f"above 0% and below {in_percent(1 / challengers)}"
        )
    check_buckets(share * challengers)


def check_buckets(share: float) -> None:
    """Refuse a share that stands for no user, or for all: users are assigned by whole buckets.

    Raises:
        ExperimentError: The share is too close to 0 or to 1.
    """
    if not 0 < round(share * BUCKETS) < BUCKETS:
        step = 100 / BUCKETS
        raise ExperimentError(
            f"a share of {100 * share:g}% gives one side no users, because they are assigned in steps of {step:g}%: "
            f"give at least {step:g}% and at most {100 - step:g}%"
        )


def in_percent(share: float) -> str:
    """A share of users as it was given: 0.5 → `50%`, 0.005 → `0.5%`."""
    return f"{100 * share:.3g}%"
