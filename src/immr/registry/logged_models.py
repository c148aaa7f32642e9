"""MLflow's LoggedModel of a version: its files, signature, training set and metrics on one page.

The files are in the artifact folder `version` of the LoggedModel, beside the `MLmodel` with the signature, which
MLflow's pages of the LoggedModel and of the model version both read.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from immr.registry.runs import KEY
from immr.registry.store import Store

FILES = "version"
DATASET = "training-set"
LOGGED_MODEL = (
    "immr.logged_model"  # tag of a version: MLflow's SQL store forgets which model it was made from
)
_DIGEST_CHARACTERS = 36  # MLflow's limit


@dataclass(frozen=True)
class Origin:
    """Where a version comes from.

    Attributes:
        image_size_px: Side of the square pictures that the query encoder reads; 0 if unknown.
        training_set: Its folder.
        sizes: Rows of the training set by kind, such as `photos`.
        pipeline_run: The id of the Kubeflow run that trained it; empty outside a pipeline.
        pipeline_link: The address of that run in Kubeflow's UI; empty if unknown.
        about: A sentence about a version that was not trained itself, such as a copy for an A/A test.
    """

    image_size_px: int = 0
    training_set: str = ""
    sizes: Mapping[str, int] = field(default_factory=dict)
    pipeline_run: str = ""
    pipeline_link: str = ""
    about: str = ""

    def description(self, recipe: str, manifest_hash: str) -> str:
        """Markdown for the page of the version in MLflow."""
        sizes = ", ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in self.sizes.items())
        lines = [self.about] if self.about else []
        lines += [f"Query encoder and towers of recipe `{recipe}`."]
        lines += [f"Training set `{manifest_hash[:16]}`" + (f": {sizes}." if sizes else ".")]
        if self.pipeline_run:
            shown = f"`{self.pipeline_run}`"
            lines += [f"Pipeline run {f'[{shown}]({self.pipeline_link})' if self.pipeline_link else shown}."]
        return "\n\n".join(lines)


class LoggedModels:
    """The LoggedModels of one experiment, one per run that trained a version."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def create(
        self, folder: Path, run_id: str, name: str, properties: Mapping[str, str], origin: Origin
    ) -> Any:
        """Upload a version's files and signature as the LoggedModel of its run; completes an earlier attempt.

        Args:
            folder: The version's files.
            run_id: The MLflow run that trained it.
            name: Name of the LoggedModel.
            properties: The version's key, `dim` and `manifest_hash`.
            origin: Where it comes from.

        Returns:
            MLflow's LoggedModel, ready.
        """
        run = self._store.call("get_run", run_id)
        self._log_dataset(run_id, properties["manifest_hash"], origin)
        model = self._unfinished(run.info.experiment_id, run_id)
        if model is None:
            model = self._store.call(
                "create_logged_model",
                run.info.experiment_id,
                name=name,
                source_run_id=run_id,
                tags={KEY: properties["key"]},
                params={"dim": properties["dim"]},
                model_type="query encoder and towers",
            )
        self.upload(model.model_id, folder)
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch) / "MLmodel"
            _write_mlmodel(file, model.model_id, run_id, int(properties["dim"]), origin)
            self._store.call("log_model_artifact", model.model_id, str(file))
        if model.model_id not in {
            each.model_id for each in (run.outputs.model_outputs if run.outputs else ())
        }:
            from mlflow.entities import LoggedModelOutput

            self._store.call("log_outputs", run_id, [LoggedModelOutput(model.model_id, step=0)])
        return self._store.call("finalize_logged_model", model.model_id, "READY")

    def upload(self, model_id: str, folder: Path) -> None:
        """Store the folder's files as the files of a version."""
        self._store.call("log_model_artifacts", model_id, str(folder), FILES)

    def _unfinished(self, experiment_id: str, run_id: str) -> Any:
        """The LoggedModel that an interrupted attempt has left, or None."""
        found = self._store.call(
            "search_logged_models", [experiment_id], f"source_run_id = '{run_id}'", max_results=1
        )
        return found[0] if found else None

    def _log_dataset(self, run_id: str, manifest_hash: str, origin: Origin) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(
            DATASET,
            digest_of(manifest_hash),
            source_type="local",
            source=json.dumps({"uri": origin.training_set}),
            profile=json.dumps(dict(origin.sizes)),
        )
        tag = InputTag("mlflow.data.context", "training")
        self._store.call("log_inputs", run_id, [DatasetInput(dataset, [tag])])


def digest_of(manifest_hash: str) -> str:
    """A training set's hash, truncated to MLflow's limit for data sets."""
    return manifest_hash[:_DIGEST_CHARACTERS]


def _write_mlmodel(file: Path, model_id: str, run_id: str, dim: int, origin: Origin) -> None:
    """Write the description that MLflow reads: `pixels` (B, 3, S, S) → `embedding` (B, dim), float32."""
    import numpy as np
    from mlflow.models import Model, ModelSignature
    from mlflow.types.schema import Schema, TensorSpec

    side = origin.image_size_px or -1
    signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype("float32"), (-1, 3, side, side), "pixels")]),
        outputs=Schema([TensorSpec(np.dtype("float32"), (-1, dim), "embedding")]),
    )
    Model(run_id=run_id, model_id=model_id, signature=signature).save(str(file))
