"""`python -m pipelines compile|upload|run|schedule`: to YAML, to Kubeflow, or run here through kfp.local."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import warnings
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from immr.errors import ImmrError, SettingsError

if TYPE_CHECKING:
    from kfp.client import Client

PIPELINES = ("refresh", "decide", "catalogue")
app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)

Host = Annotated[
    str, typer.Option(envvar="KFP_ENDPOINT", help="Address of Kubeflow Pipelines; empty: by kubeconfig.")
]
Namespace = Annotated[
    str, typer.Option(help="Profile's namespace; empty where Kubeflow Pipelines has a single user.")
]
Version = Annotated[
    str, typer.Option(help="Name of the pipeline's version; the same name is not uploaded twice.")
]
Recipe = Annotated[str, typer.Option(help="Recipe by name.")]
Workers = Annotated[int, typer.Option("--workers", "--processes", help="Training processes.")]
Gpus = Annotated[int, typer.Option(help="GPUs reserved for each of them on a cluster.")]
GateMargin = Annotated[float, typer.Option(help="How much worse the lower bound may be.")]
Deploy = Annotated[bool, typer.Option(help="Let a version that passes the gate serve.")]
Share = Annotated[float, typer.Option(help="Share of the users that a challenger gets.")]
ServiceAccount = Annotated[
    str, typer.Option(help="Account of the steps; empty: the one that Kubeflow gives (docs/kubernetes.md).")
]


@app.command("compile")
def compile_all(
    out: Annotated[Path, typer.Option(help="Folder for the YAML files.")] = Path(__file__).parent,
) -> None:
    """Write one YAML a pipeline, ready to be uploaded in the Kubeflow UI."""
    from kfp import compiler

    out.mkdir(parents=True, exist_ok=True)
    for name in PIPELINES:
        path = out / f"{name}.yaml"
        compiler.Compiler().compile(getattr(import_module(f"pipelines.{name}"), name), str(path))
        typer.echo(f"wrote {path}")


@app.command()
def run(
    data: Annotated[str, typer.Argument(help="Folder with items, queries and impressions as Parquet.")],
    recipe: Recipe = "concept",
    workers: Workers = 2,
    gpus_per_worker: Gpus = 0,
    gate_margin: GateMargin = -0.05,
    deploy: Deploy = True,
    share: Share = 0.5,
    on_cluster: Annotated[bool, typer.Option("--on-cluster", help="On Kubeflow, by its address.")] = False,
    host: Host = "",
    namespace: Namespace = "",
    version: Version = "",
    service_account: ServiceAccount = "",
) -> None:
    """Run the refresh pipeline: on this machine, each step a process of its own, or --on-cluster."""
    from immr import recipes
    from immr.settings import Settings

    recipes.by_name(recipe)
    values = _values(recipe, workers, gpus_per_worker, gate_margin, deploy, share)
    if on_cluster:
        client = _client(host)
        pipeline, uploaded = _uploaded(client, "refresh", version)
        made = client.run_pipeline(
            client.create_experiment("immr", namespace=namespace or None).experiment_id,
            job_name=f"refresh-{recipe}",
            pipeline_id=pipeline,
            version_id=uploaded,
            params={"data_uri": data} | values,
            service_account=service_account or None,
        )
        typer.echo(f"started run {made.run_id}")
        return
    root = Settings().home / "pipeline"
    _use_this_machine(root)
    from pipelines.refresh import refresh

    try:
        refresh(data_uri=str(Path(data).absolute()), **values)
    except RuntimeError as error:  # kfp.local's, when a step has failed; the step has said why
        raise ImmrError(_step_failed(error)) from error
    _keep_newest(root, runs=5)


@app.command()
def decide(
    apply: Annotated[bool, typer.Option(help="Promote, or take the challenger off.")] = True,
) -> None:
    """Run the decide pipeline on this machine: what the running A/B test says, and what follows."""
    from immr.settings import Settings

    root = Settings().home / "pipeline"
    _use_this_machine(root)
    from pipelines.decide import decide as pipeline

    pipeline(apply=apply)
    _keep_newest(root, runs=5)


@app.command()
def catalogue(
    changed: Annotated[str, typer.Option(help="Items that are new or different, as Parquet or CSV.")] = "",
    deleted: Annotated[str, typer.Option(help="Items that are gone: a file with a column item_id.")] = "",
) -> None:
    """Run the catalogue pipeline on this machine: changed and deleted items reach every collection."""
    from immr.settings import Settings

    root = Settings().home / "pipeline"
    _use_this_machine(root)
    from pipelines.catalogue import catalogue as pipeline

    uris = [str(Path(file).absolute()) if file else "" for file in (changed, deleted)]
    try:
        pipeline(changed_uri=uris[0], deleted_uri=uris[1])
    except RuntimeError as error:
        raise ImmrError(_step_failed(error)) from error
    _keep_newest(root, runs=5)


@app.command()
def upload(host: Host = "", version: Version = "") -> None:
    """Bring every pipeline into Kubeflow, as a version named after IMMR's unless --version says otherwise."""
    client = _client(host)
    for name in PIPELINES:
        pipeline, uploaded = _uploaded(client, name, version)
        typer.echo(f"{_title(name)}: pipeline {pipeline}, version {uploaded}")


@app.command()
def schedule(
    data: Annotated[str, typer.Argument(help="Folder with the tables, as the cluster's pods see it.")],
    cron: Annotated[
        str, typer.Option(help="Seconds first: `0 0 3 * * *` is every night at three.")
    ] = "0 0 3 * * *",
    recipe: Recipe = "concept",
    workers: Workers = 2,
    gpus_per_worker: Gpus = 0,
    gate_margin: GateMargin = -0.05,
    deploy: Deploy = True,
    share: Share = 0.5,
    host: Host = "",
    namespace: Namespace = "",
    version: Version = "",
    service_account: ServiceAccount = "",
) -> None:
    """Let Kubeflow run the refresh pipeline again and again, one run at a time, with no catching up."""
    from immr import recipes

    recipes.by_name(recipe)
    client = _client(host)
    pipeline, uploaded = _uploaded(client, "refresh", version)
    made = client.create_recurring_run(
        client.create_experiment("immr", namespace=namespace or None).experiment_id,
        job_name=f"refresh-{recipe}",
        cron_expression=cron,
        max_concurrency=1,
        no_catchup=True,
        params={"data_uri": data} | _values(recipe, workers, gpus_per_worker, gate_margin, deploy, share),
        pipeline_id=pipeline,
        version_id=uploaded,
        service_account=service_account or None,
    )
    typer.echo(f"scheduled {made.recurring_run_id} at {cron}")


def _step_failed(error: RuntimeError) -> str:
    return f"the run did not get through; what its steps said is above ({error})"


def _values(
    recipe: str, workers: int, gpus_per_worker: int, gate_margin: float, deploy: bool, share: float
) -> dict[str, Any]:
    """The refresh pipeline's parameters, all but the data."""
    return {
        "recipe": recipe,
        "workers": workers,
        "gpus_per_worker": gpus_per_worker,
        "gate_margin": gate_margin,
        "deploy": deploy,
        "share": share,
    }


def _client(host: str) -> Client:
    from kfp.client import Client

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # that it is a client of version 2
            return Client(host=host or None)
    except Exception as error:  # kfp raises what its parts raise: urllib3, kubernetes, ValueError
        raise SettingsError(
            f"Kubeflow Pipelines does not answer at {host or 'what the kubeconfig says'}: give --host or set "
            f"KFP_ENDPOINT ({error})"
        ) from error


def _title(name: str) -> str:
    return f"immr-{name}"


def _uploaded(client: Client, name: str, version: str) -> tuple[str, str]:
    """Ids of a pipeline and of its version of that name; what is there already is not uploaded again."""
    from immr import __version__

    version = version or __version__
    with tempfile.TemporaryDirectory() as folder:
        compile_all(Path(folder))
        file = str(Path(folder) / f"{name}.yaml")
        pipeline = client.get_pipeline_id(_title(name))
        if pipeline is None:
            pipeline = client.upload_pipeline(file, _title(name)).pipeline_id
        there: Any = client.list_pipeline_versions(pipeline, page_size=100).pipeline_versions or []
        for one in there:
            if one.display_name == version:
                return str(pipeline), str(one.pipeline_version_id)
        made = client.upload_pipeline_version(file, version, pipeline_id=pipeline)
    return str(pipeline), str(made.pipeline_version_id)


def _use_this_machine(root: Path) -> None:
    from kfp import local

    os.environ.setdefault("IMMR_PIPELINE_RETRIES", "0")
    # kfp.local starts "python3", and its steps start torchrun and bentoml: all from this environment.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    root.mkdir(parents=True, exist_ok=True)
    local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=str(root))


def _keep_newest(root: Path, runs: int) -> None:
    folders = sorted(
        (path for path in root.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime
    )
    for old in folders[:-runs]:
        shutil.rmtree(old, ignore_errors=True)


if __name__ == "__main__":
    try:
        app()
    except ImmrError as error:
        sys.exit(f"{type(error).__name__}: {error}")
