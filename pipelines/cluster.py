"""What every step has on a cluster: the shared home, IMMR_* from one ConfigMap, no root; here, nothing."""

import os

from kfp import kubernetes
from kfp.dsl.pipeline_task import PipelineTask

CLAIM = "immr-home"
HOME = "/immr"
SETTINGS = "immr-settings"
VARIABLES = tuple(
    f"IMMR_{name}"
    for name in (
        "HOME",
        "ENGINE_URL",
        "TRACKING_URL",
        "INDEX_URL",
        "FEATURES_URL",
        "EVENTS_URL",
        "LAUNCH_URL",
        "DEPLOY_URL",
        "TRACKING_LINK",
        "PAGE_LINK",
    )
)
USER = 10001  # of the images
DAY_S = 24 * 3600


def at_home(*tasks: PipelineTask) -> None:
    """Mount the claim and read the settings of k8s/base in each of these steps.

    Kubeflow's cache is off: it goes by names and would trust what was deleted or changed since. Our own steps
    reuse what they find under a key of its content, and look first whether it is there (docs/decisions/0001).
    """
    for task in tasks:
        kubernetes.mount_pvc(task, pvc_name=CLAIM, mount_path=HOME)
        # what a step reads of Kafka's topic is a view of its own: SQLite must not lie on a shared file system
        kubernetes.empty_dir_mount(task, volume_name="events", mount_path=f"{HOME}/events")
        kubernetes.use_config_map_as_env(task, SETTINGS, {name: name for name in VARIABLES})
        kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
        kubernetes.set_timeout(task, DAY_S)
        task.set_caching_options(enable_caching=False)


def repeatable(*tasks: PipelineTask) -> None:
    """Try again, later and later: each step finds what an earlier try has done, so a second does no harm.

    On one machine nothing gets better by waiting: IMMR_PIPELINE_RETRIES=0 there.
    """
    retries = int(os.environ.get("IMMR_PIPELINE_RETRIES", "2"))
    for task in tasks:
        if retries:
            task.set_retry(retries, backoff_duration="30s", backoff_factor=3, backoff_max_duration="600s")
