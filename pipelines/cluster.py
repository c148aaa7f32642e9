"""Configures steps on a cluster: the shared home, IMMR_* settings, requests and limits, retries."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from types import SimpleNamespace

from kfp import kubernetes
from kfp.dsl import pipeline_task
from kfp.dsl.pipeline_task import PipelineTask

from components.image import IMAGE
from immr.errors import SettingsError
from immr.launch.kubeflow.pods import S3_KEYS, S3_SECRET
from immr.loop.pipeline_run import TRIES

CLAIM = "immr-home"
HOME = "/immr"
SETTINGS = "immr-settings"
DATABASE_SECRET = "immr-postgres"
REDIS_SECRET, REDIS_SECRET_PATH = "immr-redis", "/var/run/immr-redis"
VARIABLES = tuple(
    f"IMMR_{name}"
    for name in (
        "HOME",
        "ENGINE_URL",
        "TRACKING_URL",
        "INDEX_URL",
        "FEATURES_URL",
        "FEATURES_PASSWORD_FILE",
        "FEATURES_REGISTRY_URL",
        "EVENTS_URL",
        "LAUNCH_URL",
        "PIXELS_URL",
        "DEPLOY_URL",
        "TOO_LARGE",
        "TRACKING_LINK",
        "PAGE_LINK",
        "API_LINK",
        "PIPELINES_LINK",
    )
)
USER = 10001  # the user of IMMR's images
ALERTS_SECRET = "immr-alerts"
REGISTRY_SECRET, REGISTRY_SECRET_PATH = "immr-registry", "/var/run/immr-registry"
DAY_S = 24 * 3600
LIMITS_S: Mapping[str, int] = {"train": 30 * DAY_S}
"""Time limits of steps for which a day is too short. A training job has its own: `active_deadline_s`."""
SIZES = "IMMR_STEP_SIZES"


@dataclass(frozen=True)
class StepSize:
    """What a step's pod reserves (`cpu`, `memory`), and the memory above which it is killed."""

    cpu: str = "250m"
    memory: str = "512Mi"
    memory_limit: str = "1Gi"


# Peaks on the synthetic shop of 80 items (2,518 photos), in MiB: govern 1,339, evaluate 605, index 559,
# materialize 491, deploy 240. Each step writes its peak to $IMMR_HOME/runs/<run>/<step>.json.
DEFAULT_SIZES: Mapping[str, StepSize] = {
    "govern": StepSize("1", "2Gi", "4Gi"),
    "train": StepSize("250m", "512Mi", "2Gi"),
    "evaluate": StepSize("1", "1Gi", "2Gi"),
    "index": StepSize("1", "1Gi", "2Gi"),
    "rank": StepSize("1", "1Gi", "4Gi"),
    "materialize": StepSize("250m", "768Mi", "2Gi"),
    "start": StepSize("1", "2Gi", "4Gi"),
}


@contextmanager
def _named_without_sources() -> Iterator[None]:
    """Tell kfp which of its methods was called, without `inspect.stack`.

    kfp 2.17 asks for that at each setting of a task, for an error message. `inspect` searches all loaded modules for
    the sources of the whole stack, which took 9 of the 12 seconds of a core in which all pipelines were compiled.
    """
    inspect = pipeline_task.inspect
    pipeline_task.inspect = SimpleNamespace(stack=_stack)
    try:
        yield
    finally:
        pipeline_task.inspect = inspect


def _stack() -> list[tuple[None, None, None, str]]:
    """kfp's check, and the method that called it; a frame's fourth value is the name of its function."""
    check = sys._getframe(1)
    return [(None, None, None, frame.f_code.co_name) for frame in (check, check.f_back) if frame]


@_named_without_sources()
def at_home(*tasks: PipelineTask) -> None:
    """Mount the claim, read the settings of k8s/base, and reserve CPU and memory in each of these steps.

    Kubeflow's cache is off. It compares names, so it would reuse a result that was deleted or changed since.
    Our steps find earlier results by a key of their content, and check that they still exist
    (docs/decisions/0001).
    """
    for task in tasks:
        kubernetes.mount_pvc(task, pvc_name=CLAIM, mount_path=HOME)
        # with Kafka a step copies the topic into a SQLite file, which must not be on a shared file system
        kubernetes.empty_dir_mount(task, volume_name="events", mount_path=f"{HOME}/events")
        kubernetes.use_config_map_as_env(task, SETTINGS, {name: name for name in VARIABLES})
        kubernetes.use_secret_as_env(task, DATABASE_SECRET, {"password": "PGPASSWORD"})
        kubernetes.use_secret_as_env(task, S3_SECRET, {name: name for name in S3_KEYS}, optional=True)
        kubernetes.use_secret_as_volume(task, REDIS_SECRET, REDIS_SECRET_PATH, optional=True)
        kubernetes.use_secret_as_volume(task, REGISTRY_SECRET, REGISTRY_SECRET_PATH, optional=True)
        task.set_env_variable("DOCKER_CONFIG", REGISTRY_SECRET_PATH)
        kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
        kubernetes.set_timeout(task, LIMITS_S.get(task.component_spec.name, DAY_S))
        task.set_env_variable("IMMR_PIPELINE_IMAGE", IMAGE)  # the training pods of a step use its image
        task.set_caching_options(enable_caching=False)
        size = size_of(task.component_spec.name)
        task.set_cpu_request(size.cpu).set_memory_request(size.memory).set_memory_limit(size.memory_limit)


def alerting(*tasks: PipelineTask) -> None:
    """Give these steps the webhook that receives alerts, if the namespace has the Secret."""
    for task in tasks:
        kubernetes.use_secret_as_env(task, ALERTS_SECRET, {"url": "IMMR_ALERT_URL"}, optional=True)


def size_of(step: str) -> StepSize:
    """The size of a step in IMMR_STEP_SIZES, or its default."""
    return step_sizes(os.environ.get(SIZES, "")).get(step) or DEFAULT_SIZES.get(step, StepSize())


def step_sizes(text: str) -> dict[str, StepSize]:
    """Read IMMR_STEP_SIZES, for example `govern=2/8Gi/16Gi,index=1/4Gi/4Gi`.

    Each entry is a step and its CPU request, memory request and memory limit.

    Raises:
        SettingsError: An entry does not have this form.
    """
    sizes = {}
    for entry in filter(None, text.split(",")):
        step, _, values = entry.partition("=")
        parts = values.split("/")
        if len(parts) != len(fields(StepSize)) or not all(parts):
            raise SettingsError(f"{SIZES} has {entry!r}: write step=cpu/memory/memory_limit")
        sizes[step.strip()] = StepSize(*(part.strip() for part in parts))
    return sizes


@_named_without_sources()
def repeatable(*tasks: PipelineTask) -> None:
    """Make these steps retry; each reuses the work of its earlier attempts.

    Kubeflow Pipelines 2.17 gives every step Argo's policy `OnError`, which replaces a pod that was lost but
    does not retry a container that failed. So the step itself retries after an error (`with_retries`).
    `backoff_max_duration` limits the time since the first attempt, not the pause: with a step's time limit, a
    training that loses its pod after days is still retried. On this machine IMMR_PIPELINE_RETRIES is 0, because
    waiting would not help.
    """
    retries = int(os.environ.get("IMMR_PIPELINE_RETRIES", "2"))
    if not retries:
        return
    for task in tasks:
        limit_s = LIMITS_S.get(task.component_spec.name, DAY_S)
        task.set_retry(retries, backoff_duration="30s", backoff_factor=3, backoff_max_duration=f"{limit_s}s")
        task.set_env_variable(TRIES, str(retries + 1))
