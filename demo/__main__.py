"""`python -m demo`, the README's first command: from photos to an A/B decision."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from demo import ab_test, data
from demo.narration import Chapter, Narration
from demo.shoppers import ShoppingReport, play
from immr import recipes
from immr.cli.help import Commands
from immr.data.training_set import TrainingSet
from immr.datasets.labelled_set import LabelledSet
from immr.deploy.local import LocalDeployer
from immr.errors import DeployError, ImmrError
from immr.experiment.definition import MIN_DAYS, Variant
from immr.loop import govern, serve
from immr.loop.evaluate import evaluation_of
from immr.loop.experiment.decide import decide
from immr.loop.materialize import push
from immr.loop.watch import Watched
from immr.machine import processes
from immr.machine.ctrl_c import ends_on_ctrl_c
from immr.machine.wording import counted
from immr.registry import reports
from immr.settings import Settings
from immr.storage.atomic import write_atomically
from immr.wiring import Parts, connect

app = Commands(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Options:
    """What the demo was asked to do."""

    once: bool
    dataset: str
    shoppers: int
    seed: int
    challenger: str
    port: int


@app.command()
def demo(
    once: Annotated[
        bool, typer.Option("--once", help="End after the A/B decision, without the page.")
    ] = False,
    dataset: Annotated[
        str, typer.Option(metavar="NAME", help="grocery (real photos) or synthetic.")
    ] = "grocery",
    shoppers: Annotated[int, typer.Option(metavar="COUNT", help="How many shoppers to simulate.")] = 2000,
    seed: Annotated[int, typer.Option(metavar="NUMBER", help="Seed of the shoppers.")] = 0,
    challenger: Annotated[str, typer.Option(metavar="RECIPE", help="The challenger's recipe.")] = "concept",
    port: Annotated[
        int, typer.Option(metavar="PORT", help="Port of the gateway; the page takes the next one.")
    ] = 8080,
) -> None:
    """Run the whole loop: a search without clicks, a version trained on clicks, their A/B test, the page.

    Example: python -m demo --once
    """
    options = Options(once, dataset, shoppers, seed, challenger, port)
    os.environ.setdefault("IMMR_HOME", str(Path(".immr/demo").absolute()))
    try:
        settings = Settings()
        os.environ.update(settings.environment())
        with (
            ends_on_ctrl_c("\nstopped; the next run resumes here", is_server=True),
            connect(settings) as parts,
        ):
            _tell_story(parts, options)
    except ImmrError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        raise typer.Exit(1) from None


def _tell_story(parts: Parts, options: Options) -> None:
    settings, story, started = parts.settings, Narration(), time.monotonic()
    with story.chapter("data", "Photos, catalogue and click log"):
        labelled = data.choose(settings, options.dataset, story.say)
        shop = data.make_shop(settings, labelled)
    story.say(
        f"{counted(len(labelled.items), 'item')}, {counted(len(labelled.photos), 'photo')} ({labelled.name})"
    )

    _reset(parts)
    _start_without_clicks(story, parts, shop)
    _refresh(story, parts, shop, options.challenger)

    with ExitStack() as running:
        with story.chapter("serve", "Two versions and the gateway start"):
            gateway_url = _start_serving(parts, running, options.port)
        report = _shop(story, labelled, gateway_url, options)
        watched = _decide(story, parts, shop)
        summary = _summary(parts, story, labelled, report, watched)
        write_atomically(settings.home / "summary.json", json.dumps(summary, indent=1))
        minutes, seconds = divmod(round(time.monotonic() - started), 60)
        story.say(f"The loop took {minutes} min {seconds} s; numbers: {settings.home / 'summary.json'}")
        samples = data.samples(settings, labelled)
        if not options.once:
            _stay_open(story, parts, options.port + 1, samples, gateway_url)


def _reset(parts: Parts) -> None:
    """Each demo starts without a champion. Trained versions and the history of tests stay."""
    ab_test.forget(parts)
    parts.registry.clear_roles()
    for deployment in parts.deployer.current():
        parts.deployer.remove(deployment.role)


def _start_without_clicks(story: Narration, parts: Parts, shop: Path) -> None:
    with story.chapter("start", "The catalogue alone: a pretrained version becomes champion") as chapter:
        items = shop / "items.parquet"
        _run(parts, chapter, ["-m", "immr.cli", "start", str(items), "--no-serve"], "start")


def _refresh(story: Narration, parts: Parts, shop: Path, recipe: str) -> None:
    with story.chapter("refresh", f"Pipeline run: {recipe} learns from the clicks") as chapter:
        command = ["-m", "pipelines", "run", str(shop), "--recipe", recipe]
        _run(parts, chapter, command, f"refresh-{Path(recipe).stem}")
    for report in reversed(reports.published(parts.settings.home)[:2]):
        story.say(report["sentence"])
    if parts.registry.role("challenger") is None:
        place = parts.settings.home / "reports"
        raise ImmrError(f"the gate stopped {recipe}, so there is no challenger: read the report in {place}")


def _run(parts: Parts, chapter: Chapter, command: list[str], log: str) -> None:
    settings = parts.settings
    processes.run(command, settings.environment(), settings.home / "logs" / f"{log}.log", chapter.follow)


def _start_serving(parts: Parts, running: ExitStack, port: int) -> str:
    deployer = parts.deployer
    assert isinstance(deployer, LocalDeployer)
    variants = tuple(
        Variant(deployment.role, deployment.url, deployment.version_id, 0.5)
        for deployment in running.enter_context(deployer.running())
    )
    for variant in variants:
        _wait_for_features(variant.url)
    ab_test.begin(parts, variants)
    return running.enter_context(serve.gateway(parts, port)).url


def _wait_for_features(bento_url: str, timeout_s: float = 60) -> None:
    """A Bento answers before its feature store is loaded; the demo measures searches with features."""
    deadline = time.monotonic() + timeout_s
    while not httpx.get(f"{bento_url}/health/ready", timeout=10).json()["features"]:
        if time.monotonic() > deadline:
            raise DeployError(f"{bento_url} has no item features after {timeout_s:.0f} s: read its log")
        time.sleep(0.25)


def _shop(story: Narration, labelled: LabelledSet, gateway_url: str, options: Options) -> ShoppingReport:
    with story.chapter("shoppers", f"{options.shoppers} shoppers search with photos and click") as chapter:
        report = play(
            gateway_url,
            data.photos_for_shoppers(labelled),
            shoppers=options.shoppers,
            seed=options.seed,
            progress=chapter.count,
        )
    numbers = ((report.searches, "search"), (report.clicks, "click"), (report.errors, "error"))
    story.say(
        f"{', '.join(counted(*each) for each in numbers)}; "
        f"p50 {report.latency_p50_ms:.0f} ms, p99 {report.latency_p99_ms:.0f} ms"
    )
    return report


def _decide(story: Narration, parts: Parts, shop: Path) -> Watched:
    with story.chapter("watch", "Readout, decision, fresh features"):
        watched = decide(parts)
        push(parts, _training_set(parts, watched), shop)
    for side in watched.readout.variants:
        rate = side.ctr
        between = f" ({rate.interval.low:.4f} – {rate.interval.high:.4f})" if rate and rate.interval else ""
        ctr = f"{rate.value:.4f}{between}" if rate else "unknown"
        story.say(f"{side.name} {side.model_version}: {counted(side.users, 'user')}, CTR {ctr}")
    story.say(f"[bold]{watched.decision.action}[/]: {watched.decision.reason}")
    story.say(f"A test of real shoppers lasts at least {MIN_DAYS:g} days; the demo's may end at once.")
    return watched


def _summary(
    parts: Parts,
    story: Narration,
    labelled: LabelledSet,
    report: ShoppingReport,
    watched: Watched,
) -> dict[str, Any]:
    training_set = _training_set(parts, watched)
    return {
        "data_set": labelled.name,
        "items": len(labelled.items),
        "governance": training_set.manifest["steps"],
        "versions": {
            side.name: _version_summary(parts, side.model_version, training_set)
            for side in watched.experiment.variants
        },
        "shopping": asdict(report),
        "readout": watched.readout.to_json(),
        "decision": asdict(watched.decision),
        "seconds": story.seconds,
    }


def _training_set(parts: Parts, watched: Watched) -> TrainingSet:
    """The challenger's; the champion's is the catalogue alone."""
    (challenger,) = watched.experiment.challengers
    return govern.training_set_of(parts, parts.registry.get(challenger.model_version))


def _version_summary(parts: Parts, version_id: str, training_set: TrainingSet) -> dict[str, Any]:
    registry = parts.registry
    version = registry.get(version_id)
    evaluation = evaluation_of(parts, version, training_set, recipes.by_name(version.recipe))
    return {
        "model_version": version.id,
        "recipe": version.recipe,
        "metrics": {name: asdict(interval) for name, interval in evaluation.intervals.items()},
        "gate": registry.tags(version).get("gate"),
    }


def _stay_open(story: Narration, parts: Parts, port: int, samples: Path, gateway_url: str) -> None:
    with serve.page(parts, port, samples, gateway_url) as page:
        story.say(f"[bold]The search is open: {page.url}[/]  (Ctrl-C stops everything)")
        signal.pause()


if __name__ == "__main__":
    app()
