"""Options that several commands of `python -m pipelines` share, and the parameters that they become."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from immr import recipes
from immr.cli.values import a_duration, a_share

Endpoint = Annotated[
    str,
    typer.Option(
        envvar="KFP_ENDPOINT",
        metavar="URL",
        help="Address of Kubeflow Pipelines; empty: from the kubeconfig.",
    ),
]
Namespace = Annotated[
    str,
    typer.Option(
        metavar="NAME", help="Namespace of the profile; empty if Kubeflow Pipelines has a single user."
    ),
]
Version = Annotated[
    str,
    typer.Option(metavar="NAME", help="Version name of the pipeline; uploaded if Kubeflow does not have it."),
]
Recipe = Annotated[
    str, typer.Option(metavar="RECIPE", help="A built-in recipe, or a TOML file that the steps can read.")
]
Processes = Annotated[int, typer.Option(metavar="COUNT", help="Training processes.")]
Gpus = Annotated[
    int, typer.Option(metavar="COUNT", help="GPUs reserved for each training process on a cluster.")
]
GateMargin = Annotated[
    float,
    typer.Option(
        metavar="MARGIN", help="The gate's margin: how far below the champion the lower bound may be."
    ),
]
Rank = Annotated[bool, typer.Option(help="Also learn a ranker from the click log.")]
Deploy = Annotated[bool, typer.Option(help="Deploy a version that passes the gate.")]
Share = Annotated[
    float,
    typer.Option(
        parser=a_share,
        metavar="SHARE",
        show_default=False,
        help="Share of users that a challenger gets: 10% or 0.1; by default 50%.",
    ),
]
Every = Annotated[
    int,
    typer.Option(
        parser=a_duration,
        metavar="DURATION",
        show_default=False,
        help="Time between two checks; by default 5m.",
    ),
]
ServiceAccount = Annotated[
    str,
    typer.Option(
        metavar="NAME", help="Service account of the steps; by default Kubeflow's (docs/kubernetes.md)."
    ),
]
OnClusterAsJson = Annotated[
    bool, typer.Option("--json", help="With --on-cluster: print JSON instead of text.")
]


def checked_recipe(recipe: str, on_cluster: bool) -> str:
    """The recipe, checked before anything starts. Only the cluster's pods can read a recipe file on the cluster."""
    is_file = recipe.endswith(".toml")
    if not (is_file and on_cluster):
        recipes.by_name(recipe)
    return str(Path(recipe).absolute()) if is_file and not on_cluster else recipe


def parameters(
    recipe: str,
    processes: int,
    gpus_per_process: int,
    gate_margin: float,
    rank: bool,
    deploy: bool,
    share: float,
) -> dict[str, Any]:
    """The refresh pipeline's parameters except the data."""
    return {
        "recipe": recipe,
        "processes": processes,
        "gpus_per_process": gpus_per_process,
        "gate_margin": gate_margin,
        "rank": rank,
        "deploy": deploy,
        "share": share,
    }
