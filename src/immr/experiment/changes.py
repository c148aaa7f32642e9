"""How an experiment changes: started, ramped, stopped, won. Pure: an experiment in, the next one out."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from immr.errors import ExperimentError
from immr.experiment.definition import CHALLENGER, CHAMPION, Experiment, Kind, Variant


def begin(
    champion: tuple[str, str],
    challenger: tuple[str, str] | None,
    weight: float,
    now: datetime,
    kind: Kind = "ab",
) -> Experiment:
    """A new experiment under a salt of its own, so that its users are mixed anew.

    Args:
        champion: Model version and URL.
        challenger: The same, or None: then all users get the champion and nothing is compared.
        weight: The challenger's share of the users.
        now: When it starts.
        kind: Whether these users get the challenger's answers, or both versions' in one.

    Raises:
        ExperimentError: a weight without sense.
    """
    version, url = champion
    stamp = now.strftime("%Y%m%dT%H%M%S")
    if challenger is None:
        alone = Variant(CHAMPION, url, version, 1.0)
        return Experiment(f"{version}-alone", f"{version}-{stamp}", (alone,), started=now)
    _check_weight(weight)
    variants = (
        Variant(CHAMPION, url, version, 1 - weight),
        Variant(CHALLENGER, challenger[1], challenger[0], weight),
    )
    name = f"{challenger[0]}-{'against' if kind == 'ab' else 'interleaved-with'}-{version}"
    return Experiment(name, f"{name}-{stamp}", variants, kind=kind, started=now)


def shadow(champion: tuple[str, str], challenger: tuple[str, str], now: datetime) -> Experiment:
    """The champion serves all users, and the challenger is asked too, unseen: before it gets any of them."""
    begun = begin(champion, None, 0.0, now)
    version, url = challenger
    variants = (*begun.variants, Variant(CHALLENGER, url, version, 0.0))
    return replace(begun, name=f"{version}-shadows-{champion[0]}", variants=variants, state="shadow")


def ramp(experiment: Experiment, weight: float, now: datetime) -> Experiment:
    """Give the challenger more users. The salt stays: who saw the challenger goes on seeing it.

    The readout begins anew, for under two weights the variants' users would not be comparable.

    Raises:
        ExperimentError: nothing runs that could be ramped, or the weight takes users from the challenger.
    """
    challenger = experiment.challenger
    if challenger is None or experiment.state != "running":
        raise ExperimentError(
            f"experiment {experiment.name} has no challenger that gets users: `immr experiment start` first"
        )
    _check_weight(weight)
    if weight <= challenger.weight:
        raise ExperimentError(
            f"the challenger has {challenger.weight:.0%} of the users, {weight:.0%} would move some of them "
            "back to the champion: ramp to more, or stop the experiment and start another"
        )
    variants = (
        replace(experiment.champion, weight=1 - weight),
        replace(challenger, weight=weight),
    )
    return replace(experiment, variants=variants, started=now)


def stop(experiment: Experiment) -> Experiment:
    """All users get the champion; what was seen so far can still be read out."""
    return replace(experiment, state="stopped")


def promote(experiment: Experiment, now: datetime) -> Experiment:
    """The challenger is the champion, alone.

    Raises:
        ExperimentError: there is no challenger.
    """
    if experiment.challenger is None:
        raise ExperimentError(f"experiment {experiment.name} has no challenger to promote")
    return _replace_champion(experiment, experiment.challenger, now)


def roll_back(experiment: Experiment, now: datetime) -> Experiment:
    """The champion before this one is the champion again, alone; rolling back once more brings this one back.

    Raises:
        ExperimentError: it is not known which one that was.
    """
    if experiment.previous is None:
        raise ExperimentError(
            f"experiment {experiment.name} knows no champion before {experiment.champion.model_version}: "
            "only a promoted version can be rolled back"
        )
    return _replace_champion(experiment, experiment.previous, now)


def _replace_champion(experiment: Experiment, champion: Variant, now: datetime) -> Experiment:
    alone = begin((champion.model_version, champion.url), None, 0.0, now)
    return replace(alone, previous=replace(experiment.champion, weight=0.0))


def _check_weight(weight: float) -> None:
    if not 0 < weight < 1:
        raise ExperimentError(
            f"the challenger's weight is {weight}: give a share above 0 and below 1, like 0.5"
        )
