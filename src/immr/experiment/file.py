"""The experiment file: JSON that the gateway watches and the readout reads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from immr.errors import ExperimentError
from immr.experiment.definition import Experiment
from immr.storage.atomic import write_atomically
from immr.types import ALL_ROLES

_FILE = TypeAdapter(Experiment)


def save(experiment: Experiment, path: Path) -> None:
    """Write the file atomically, so that a watching gateway never reads half of it.

    Fields with their default are left out, so that gateways of the previous release can read the file too, unless
    it uses what is new.
    """
    write_atomically(path, _FILE.dump_json(experiment, exclude_defaults=True, indent=1).decode() + "\n")


def load(path: Path) -> Experiment:
    """Read and check an experiment file.

    Raises:
        ExperimentError: the file is missing, is not JSON, or is not a valid experiment.
    """
    try:
        experiment = _FILE.validate_json(path.read_bytes())
    except OSError as error:
        raise ExperimentError(
            f"there is no test in {path} ({error.strerror}): deploy a version first, then run "
            "`immr experiment start`"
        ) from error
    except ValidationError as error:
        raise ExperimentError(
            f"{path}: {_fault(error)}: correct it, or run `immr experiment start`"
        ) from error
    except ExperimentError as error:
        raise ExperimentError(f"{path}: {error}") from error
    versions = [each.model_version for each in experiment.variants if not each.ended]
    if len(set(versions)) < len(versions):
        raise ExperimentError(
            f"{path}: variants share a version ({versions}): `immr experiment aa` deploys a copy"
        )
    in_order = sorted(experiment.variants, key=lambda each: ALL_ROLES.index(each.name))
    return replace(experiment, variants=tuple(in_order))


def as_read_back(experiment: Experiment) -> Experiment:
    """The experiment as `load` would give it after `save`: numbers of shares are floats."""
    return _FILE.validate_json(_FILE.dump_json(experiment))


def _fault(error: ValidationError) -> str:
    """The first fault: where it is, what is wrong, and the value."""
    first = error.errors(include_url=False)[0]
    where, what = ".".join(map(str, first["loc"])) or "it", first["msg"][0].lower() + first["msg"][1:]
    match first["type"]:
        case "json_invalid":
            return f"it is not JSON ({what})"
        case "missing":
            return f"{where} is missing"
        case "unexpected_keyword_argument":
            return f"there is no field {where}"
        case _:
            return f"{where}: {what}, not {json.dumps(first['input']):.100}"
