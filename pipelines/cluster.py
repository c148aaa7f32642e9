"""What every step has on a cluster: the shared home, and IMMR_* from one ConfigMap; here, nothing."""

from kfp import kubernetes
from kfp.dsl.pipeline_task import PipelineTask

CLAIM = "immr-home"
HOME = "/immr"
SETTINGS = "immr-settings"
VARIABLES = ("IMMR_HOME", "IMMR_TRACKING_URL", "IMMR_INDEX_URL", "IMMR_LAUNCH_URL", "IMMR_DEPLOY_URL")


def at_home(*tasks: PipelineTask) -> None:
    """Mount the claim and read the settings of k8s/base in each of these steps."""
    for task in tasks:
        kubernetes.mount_pvc(task, pvc_name=CLAIM, mount_path=HOME)
        kubernetes.use_config_map_as_env(task, SETTINGS, {name: name for name in VARIABLES})
