"""Spark with this process as the driver and pods as executors, started through the cluster's API server.

This is Spark's client mode: a pipeline's step `govern` is the driver. Executors run in the step's image, mount the
claim at IMMR's home, and are deleted with the step's pod.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from immr.cluster import api
from immr.errors import SettingsError
from immr.storage.atomic import write_atomically

MASTER = "k8s://https://kubernetes.default.svc"
DRIVER_PORT, BLOCK_MANAGER_PORT = 7078, 7079
"""Executors connect to the driver here; k8s/components/spark-steps opens these ports."""
ACCOUNT = "immr-spark-executor"
CLAIM = "immr-home"
_IMAGE = "spark.kubernetes.container.image"
_USER = 10001  # the user of IMMR's images


def settings(namespace: str, options: Mapping[str, str]) -> dict[str, str]:
    """Spark's settings for executors in pods; `options` take precedence.

    Args:
        namespace: Of the executors; empty for this pod's.
        options: `scratch`, the folder at which the claim is mounted, and settings of Spark.

    Raises:
        SettingsError: The image of the executors is unknown.
    """
    image = options.get(_IMAGE) or os.environ.get("IMMR_PIPELINE_IMAGE")
    if not image:
        raise SettingsError(
            f"the executors' image is unknown: set IMMR_PIPELINE_IMAGE, or add {_IMAGE}=… to IMMR_ENGINE_URL"
        )
    template = Path(tempfile.gettempdir()) / "immr-spark-executor.json"
    write_atomically(template, json.dumps(_pod(options.get("scratch", ""))))
    driver = socket.gethostname()
    return {
        _IMAGE: image,
        "spark.kubernetes.namespace": namespace or api.own_namespace(),
        "spark.kubernetes.authenticate.executor.serviceAccountName": ACCOUNT,
        "spark.kubernetes.executor.podTemplateFile": str(template),
        "spark.kubernetes.executor.disableConfigMap": "true",  # so that the driver only needs rights on pods
        "spark.kubernetes.driver.pod.name": driver,  # executors belong to it and are deleted with it
        "spark.kubernetes.driver.service.deleteOnTermination": "false",  # a step has no Service
        "spark.kubernetes.driver.ownPersistentVolumeClaim": "false",
        "spark.kubernetes.driver.reusePersistentVolumeClaim": "false",
        "spark.driver.host": socket.gethostbyname(driver),
        "spark.driver.bindAddress": "0.0.0.0",
        "spark.driver.port": str(DRIVER_PORT),
        "spark.driver.blockManager.port": str(BLOCK_MANAGER_PORT),
        "spark.executor.instances": "2",
        "spark.ui.enabled": "false",
        **options,
    }


def _pod(home: str) -> dict[str, Any]:
    """What Spark's own settings cannot say about an executor's pod: security, labels and volumes."""
    container = {
        "name": "executor",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "env": [{"name": "HOME", "value": "/tmp"}],
        "volumeMounts": [{"name": "home", "mountPath": home}, {"name": "tmp", "mountPath": "/tmp"}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "labels": {
                "app.kubernetes.io/name": "immr-spark",
                "app.kubernetes.io/component": "governance",
                "app.kubernetes.io/part-of": "immr",
            }
        },
        "spec": {
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": _USER,
                "runAsGroup": _USER,
                "fsGroup": _USER,
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "volumes": [
                {"name": "home", "persistentVolumeClaim": {"claimName": CLAIM}},
                {"name": "tmp", "emptyDir": {}},
            ],
        },
    }
