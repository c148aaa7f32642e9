"""Compile pipelines, upload, run and schedule them on Kubeflow, or run them on this machine."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from immr.cli.help import Commands
from immr.cli.options import NEGATIVE, AsJson, report
from immr.errors import ImmrError, SettingsError
from immr.machine.ctrl_c import ends_on_ctrl_c
from immr.settings import Settings
from pipelines import kubeflow
from pipelines.kubeflow import PIPELINES
from pipelines.new_data import Checked, NewData
from pipelines.options import (
    Deploy,
    Endpoint,
    Every,
    GateMargin,
    Gpus,
    Namespace,
    OnClusterAsJson,
    Processes,
    Rank,
    Recipe,
    ServiceAccount,
    Share,
    Version,
    checked_recipe,
    parameters,
)
from pipelines.this_machine import on_this_machine

app = Commands(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)


@app.command("compile")
def compile_all(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder for the YAML files.")] = Path(
        __file__
    ).parent,
    as_json: AsJson = False,
) -> None:
    """Write one YAML file per pipeline, ready for upload in the Kubeflow UI.

    Example: python -m pipelines compile
    """
    wrote = [kubeflow.compile_to(name, out) for name in PIPELINES]
    report("\n".join(f"wrote {file}" for file in wrote), [{"file": file} for file in wrote], as_json)


@app.command()
def run(
    data: Annotated[str, typer.Argument(help="Your tables, as for `immr govern`: a folder, URL or mapping.")],
    recipe: Recipe = "concept",
    processes: Processes = 2,
    gpus_per_process: Gpus = 0,
    gate_margin: GateMargin = -0.05,
    rank: Rank = False,
    deploy: Deploy = True,
    share: Share = 0.5,
    on_cluster: Annotated[
        bool, typer.Option("--on-cluster", help="Run on Kubeflow instead of this machine.")
    ] = False,
    endpoint: Endpoint = "",
    namespace: Namespace = "",
    version: Version = "",
    service_account: ServiceAccount = "",
    as_json: OnClusterAsJson = False,
) -> None:
    """Run the refresh pipeline on this machine, each step as a process, or on Kubeflow (--on-cluster).

    Example: python -m pipelines run my-shop --recipe concept
    """
    recipe = checked_recipe(recipe, on_cluster)
    values = parameters(recipe, processes, gpus_per_process, gate_margin, rank, deploy, share)
    if on_cluster:
        client = kubeflow.connect(endpoint)
        pipeline, uploaded = kubeflow.upload(client, "refresh", version, namespace)
        made = client.run_pipeline(
            client.create_experiment("immr", namespace=namespace or None).experiment_id,
            job_name=f"refresh-{Path(recipe).stem}",
            pipeline_id=pipeline,
            version_id=uploaded,
            params={"data_uri": data} | values,
            service_account=service_account or None,
        )
        report(f"started run {made.run_id}", {"run": made.run_id}, as_json)
        return
    with on_this_machine(Settings().home, "refresh"):
        from pipelines.refresh import refresh

        refresh(data_uri=data if "://" in data else str(Path(data).absolute()), **values)


@app.command()
def decide(
    apply: Annotated[bool, typer.Option(help="Carry out the decision.")] = True,
) -> None:
    """Run the decide pipeline on this machine: read out the running test and apply the decision.

    Example: python -m pipelines decide
    """
    with on_this_machine(Settings().home, "decide"):
        from pipelines.decide import decide as pipeline

        pipeline(apply=apply)


@app.command()
def catalogue(
    changed: Annotated[str, typer.Option(metavar="FILE", help="File with new or changed items.")] = "",
    deleted: Annotated[
        str, typer.Option(metavar="FILE", help="File with the deleted items: a column item_id.")
    ] = "",
) -> None:
    """Run the catalogue pipeline on this machine: deliver changed and deleted items to every collection.

    Example: python -m pipelines catalogue --changed new-items.parquet
    """
    uris = [str(Path(file).absolute()) if file else "" for file in (changed, deleted)]
    with on_this_machine(Settings().home, "catalogue"):
        from pipelines.catalogue import catalogue as pipeline

        pipeline(changed_uri=uris[0], deleted_uri=uris[1])


@app.command()
def start(
    items: Annotated[str, typer.Argument(help="The catalogue: a file, folder, glob, URL or mapping.")],
    recipe: Annotated[
        str, typer.Option(metavar="RECIPE", help="A recipe that needs no training.")
    ] = "zero_shot",
) -> None:
    """Run the start pipeline on this machine: index and deploy a catalogue with a pretrained version.

    Example: python -m pipelines start items.parquet
    """
    recipe = checked_recipe(recipe, on_cluster=False)
    with on_this_machine(Settings().home, "start"):
        from pipelines.start import start as pipeline

        pipeline(items_uri=items if "://" in items else str(Path(items).absolute()), recipe=recipe)


@app.command()
def upload(
    endpoint: Endpoint = "", namespace: Namespace = "", version: Version = "", as_json: AsJson = False
) -> None:
    """Upload every pipeline to Kubeflow, named by IMMR's version unless --version is given.

    Example: python -m pipelines upload
    """
    client = kubeflow.connect(endpoint)
    rows = []
    for name in PIPELINES:
        pipeline, uploaded = kubeflow.upload(client, name, version, namespace)
        rows.append({"name": kubeflow.title(name), "pipeline": pipeline, "version": uploaded})
    lines = [f"{row['name']}: pipeline {row['pipeline']}, version {row['version']}" for row in rows]
    report("\n".join(lines), rows, as_json)


@app.command()
def schedule(
    data: Annotated[str, typer.Argument(help="Your tables, at a path or URL for the cluster's pods.")],
    cron: Annotated[
        str,
        typer.Option(
            metavar="CRON", help="Cron expression with seconds first: `0 0 3 * * *` is every night at three."
        ),
    ] = "0 0 3 * * *",
    recipe: Recipe = "concept",
    processes: Processes = 2,
    gpus_per_process: Gpus = 0,
    gate_margin: GateMargin = -0.05,
    rank: Rank = False,
    deploy: Deploy = True,
    share: Share = 0.5,
    endpoint: Endpoint = "",
    namespace: Namespace = "",
    version: Version = "",
    service_account: ServiceAccount = "",
    as_json: AsJson = False,
) -> None:
    """Schedule the refresh pipeline on Kubeflow: one run at a time, without catching up on missed runs.

    Example: python -m pipelines schedule /immr/data/shop
    """
    recipe = checked_recipe(recipe, on_cluster=True)
    client = kubeflow.connect(endpoint)
    pipeline, uploaded = kubeflow.upload(client, "refresh", version, namespace)
    made = client.create_recurring_run(
        client.create_experiment("immr", namespace=namespace or None).experiment_id,
        job_name=f"refresh-{Path(recipe).stem}",
        cron_expression=cron,
        max_concurrency=1,
        no_catchup=True,
        params={"data_uri": data}
        | parameters(recipe, processes, gpus_per_process, gate_margin, rank, deploy, share),
        pipeline_id=pipeline,
        version_id=uploaded,
        service_account=service_account or None,
    )
    report(
        f"scheduled {made.recurring_run_id} at {cron}",
        {"recurring_run": made.recurring_run_id, "cron": cron},
        as_json,
    )


@app.command("on-new-data")
def on_new_data(
    data: Annotated[str, typer.Argument(help="Your tables, at a path or URL for this command and the pods.")],
    every: Every = 300,
    once: Annotated[
        bool,
        typer.Option(
            "--once",
            help="Check once and trust that the data are complete. "
            "Exits with 3 if new data must wait for an earlier run to end.",
        ),
    ] = False,
    recipe: Recipe = "concept",
    processes: Processes = 2,
    gpus_per_process: Gpus = 0,
    gate_margin: GateMargin = -0.05,
    rank: Rank = False,
    deploy: Deploy = True,
    share: Share = 0.5,
    endpoint: Endpoint = "",
    namespace: Namespace = "",
    version: Version = "",
    service_account: ServiceAccount = "",
    as_json: AsJson = False,
) -> None:
    """Start a refresh on Kubeflow whenever the data have changed: once per content, one run at a time.

    Run it with --once at the end of the job that exports the data.

    Example: python -m pipelines on-new-data /immr/data/shop --once
    """
    recipe = checked_recipe(recipe, on_cluster=True)
    client = kubeflow.connect(endpoint)
    experiment = client.create_experiment("immr", namespace=namespace or None).experiment_id
    values = {"data_uri": data} | parameters(
        recipe, processes, gpus_per_process, gate_margin, rank, deploy, share
    )

    def start(name: str) -> str:
        pipeline, uploaded = _uploaded_refresh(client, version, namespace)
        made = client.run_pipeline(
            experiment,
            job_name=name,
            pipeline_id=pipeline,
            version_id=uploaded,
            params=values,
            service_account=service_account or None,
        )
        return str(made.run_id)

    watched = NewData(client, data, f"refresh-{Path(recipe).stem}", experiment, start)
    if once:
        checked = watched.check(settled=True)
        _report_check(checked, as_json)
        raise typer.Exit(NEGATIVE if checked.waits else 0)
    _watch(watched, every, as_json)


def _uploaded_refresh(client: Any, version: str, namespace: str) -> tuple[str, str]:
    if (there := kubeflow.uploaded(client, "refresh", version, namespace)) is None:
        where = f" --namespace {namespace}" if namespace else ""
        raise SettingsError(
            f"Kubeflow Pipelines has no {kubeflow.title('refresh')} of this version: "
            f"run `python -m pipelines upload{where}`"
        )
    return there


def _watch(data: NewData, every_s: int, as_json: bool) -> None:
    last = ""
    while True:
        if (done := data.check_or_log()) is not None and done.sentence != last:
            _report_check(done, as_json)
            last = done.sentence
        time.sleep(every_s)


def _report_check(checked: Checked, as_json: bool) -> None:
    report(checked.sentence, asdict(checked), as_json)


if __name__ == "__main__":
    try:
        with ends_on_ctrl_c():
            app()
    except ImmrError as error:
        sys.exit(f"{type(error).__name__}: {error}")
