"""Changes of an experiment: begin, ramp, stop, promote, roll back. Pure functions; each returns a new one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from immr.errors import ExperimentError
from immr.experiment.definition import CHALLENGER, CHAMPION, Experiment, Kind, Variant


def begin(
    champion: tuple[str, str],
    challenger: tuple[str, str] | None,
    weight: float,
    now: datetime,
    kind: Kind = "ab",
    planned_users: int | None = None,
    ramp: Sequence[float] = (),
    ramp_every_s: int | None = None,
) -> Experiment:
    """A new experiment with its own name and salt, so that users are assigned independently of earlier ones.

    Args:
        champion: Model version and URL.
        challenger: The same; None to give all users the champion and compare nothing.
        weight: The challenger's share of the users.
        now: Start of the experiment.
        kind: "ab" shows these users the challenger's items, "interleave" the items of both versions.
        planned_users: Users of both variants that the experiment is planned for (`readout.power`).
        ramp: The challenger's next shares.
        ramp_every_s: How long each share lasts.

    Raises:
        ExperimentError: the weight is not between 0 and 1, or the ramp does not grow.
    """
    version, url = champion
    stamp = now.strftime("%Y%m%dT%H%M%S") + f"{now.microsecond // 1000:03d}"
    if challenger is None:
        alone = Variant(CHAMPION, url, version, 1.0)
        return Experiment(f"{version}-alone", f"{version}-{stamp}", (alone,), started=now)
    check_weight(weight)
    variants = (
        Variant(CHAMPION, url, version, 1 - weight),
        Variant(CHALLENGER, challenger[1], challenger[0], weight),
    )
    name = f"{challenger[0]}-{'against' if kind == 'ab' else 'interleaved-with'}-{version}-{stamp}"
    return Experiment(
        name,
        name,
        variants,
        kind=kind,
        started=now,
        planned_users=planned_users,
        ramp=tuple(ramp),
        ramp_every_s=ramp_every_s,
    )


def shadow(champion: tuple[str, str], challenger: tuple[str, str], now: datetime) -> Experiment:
    """The champion serves all users; the challenger gets copies of searches, and nobody sees its answers."""
    begun = begin(champion, None, 0.0, now)
    version, url = challenger
    variants = (*begun.variants, Variant(CHALLENGER, url, version, 0.0))
    return replace(begun, name=f"{version}-shadows-{champion[0]}", variants=variants, state="shadow")


def ramp(experiment: Experiment, weight: float, now: datetime) -> Experiment:
    """Give the challenger more users. The salt stays, so its users keep seeing it.

    The readout restarts, because users assigned under two different weights are not comparable.

    Raises:
        ExperimentError: no challenger gets users, or the new weight is not larger.
    """
    challenger = experiment.challenger
    if challenger is None or experiment.state != "running":
        raise ExperimentError(
            f"experiment {experiment.name} has no running challenger: run `immr experiment start` first"
        )
    check_weight(weight)
    if weight <= challenger.weight:
        raise ExperimentError(
            f"the challenger has {challenger.weight:.0%} of the users, so {weight:.0%} would move some of "
            "them back to the champion: ramp to a larger share, or stop the experiment and start another"
        )
    variants = (
        replace(experiment.champion, weight=1 - weight),
        replace(challenger, weight=weight),
    )
    planned = experiment.planned_users
    if planned is not None:
        planned = replan(planned, challenger.weight, weight)
    left = tuple(share for share in experiment.ramp if share > weight)
    return replace(experiment, variants=variants, started=now, planned_users=planned, ramp=left)


def due_share(experiment: Experiment, now: datetime) -> float | None:
    """The next share of a ramp whose current share has lasted long enough; else None."""
    if experiment.state != "running" or not experiment.ramp or experiment.started is None:
        return None
    lasts = timedelta(seconds=experiment.ramp_every_s or 0)
    return experiment.ramp[0] if now >= experiment.started + lasts else None


def replan(planned_users: int, share: float, new_share: float) -> int:
    """Planned users once the challenger's share has changed: an even split needs the fewest."""
    return math.ceil(planned_users * share * (1 - share) / (new_share * (1 - new_share)))


def stop(experiment: Experiment) -> Experiment:
    """All users get the champion; the experiment so far can still be read out."""
    return replace(experiment, state="stopped")


def promote(experiment: Experiment, now: datetime) -> Experiment:
    """Make the challenger the champion of all users.

    Raises:
        ExperimentError: there is no challenger.
    """
    if experiment.challenger is None:
        raise ExperimentError(f"experiment {experiment.name} has no challenger to promote")
    return _replace_champion(experiment, experiment.challenger, now)


def roll_back(experiment: Experiment, now: datetime) -> Experiment:
    """Make the previous champion the champion of all users again; a second rollback undoes the first.

    Raises:
        ExperimentError: the previous champion is unknown.
    """
    if experiment.previous is None:
        raise ExperimentError(
            f"the champion before {experiment.champion.model_version} is unknown in experiment "
            f"{experiment.name}: only a version that was promoted can be rolled back"
        )
    return _replace_champion(experiment, experiment.previous, now)


def _replace_champion(experiment: Experiment, champion: Variant, now: datetime) -> Experiment:
    alone = begin((champion.model_version, champion.url), None, 0.0, now)
    return replace(alone, previous=replace(experiment.champion, weight=0.0))


def check_weight(weight: float) -> None:
    """Refuse a share that is not between 0 and 1.

    Raises:
        ExperimentError: it is not.
    """
    if not 0 < weight < 1:
        raise ExperimentError(
            f"the challenger's weight is {weight}: give a share above 0 and below 1, like 0.5"
        )
