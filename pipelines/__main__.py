"""`python -m pipelines compile|run`: pipelines to YAML for the Kubeflow UI, or run here through kfp.local."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

PIPELINES = ("refresh",)
app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)


@app.command("compile")
def compile_all(
    out: Annotated[Path, typer.Option(help="Folder for the YAML files.")] = Path(__file__).parent,
) -> None:
    """Write one YAML a pipeline, ready to be uploaded in the Kubeflow UI."""
    from kfp import compiler

    from pipelines import refresh

    out.mkdir(parents=True, exist_ok=True)
    for name in PIPELINES:
        path = out / f"{name}.yaml"
        compiler.Compiler().compile(getattr(refresh, name), str(path))
        typer.echo(f"wrote {path}")


@app.command()
def run(
    data: Annotated[Path, typer.Argument(help="Folder with items, queries and impressions as Parquet.")],
    recipe: Annotated[str, typer.Option(help="Recipe by name.")] = "concept",
    processes: Annotated[int, typer.Option(help="Training processes.")] = 2,
    gate_margin: Annotated[float, typer.Option(help="How much worse the lower bound may be.")] = -0.05,
) -> None:
    """Run the refresh pipeline on this machine; each step is a process of its own."""
    from immr import recipes
    from immr.settings import Settings

    recipes.by_name(recipe)
    root = Settings().home / "pipeline"
    _use_this_machine(root)
    from pipelines.refresh import refresh

    refresh(data_uri=str(data.absolute()), recipe=recipe, processes=processes, gate_margin=gate_margin)
    _keep_newest(root, runs=5)


def _use_this_machine(root: Path) -> None:
    from kfp import local

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
    app()
