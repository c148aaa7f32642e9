"""A cluster as the chaos run uses it: through kubectl, like an operator at the keyboard."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.k8s.real.faults import Fault

_TIMEOUT_S = 60
_REQUEST_TIMEOUT = "--request-timeout=5s"  # an API server that is cut off must not delay the end of the fault


@dataclass(frozen=True)
class Kubectl:
    """kubectl with one kubeconfig.

    Attributes:
        kubeconfig: The file.
        namespace: IMMR's.
        program: Replaced in tests.
    """

    kubeconfig: str
    namespace: str
    program: str = "kubectl"

    def run(self, arguments: Sequence[str], namespace: str = "") -> str:
        """Run a command; returns its output.

        Raises:
            RuntimeError: It failed; the message has its last line.
        """
        command = [self.program, "--kubeconfig", self.kubeconfig, "--namespace", namespace or self.namespace]
        done = subprocess.run(
            [*command, *arguments], capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
        )
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise RuntimeError(f"kubectl {' '.join(arguments[:3])}: {last}")
        return done.stdout

    def carry_out(self, fault: Fault, arguments: Sequence[str]) -> None:
        """Run a fault's command or its undo, where it belongs.

        Raises:
            RuntimeError: It failed.
        """
        if not fault.here:
            self.run(arguments, fault.namespace)
            return
        done = subprocess.run(
            arguments[0], shell=True, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
        )
        if done.returncode != 0:
            raise RuntimeError(f"{arguments[0]}: {done.stderr.strip()}")

    def items(self, kind: str, selector: str = "") -> list[dict[str, Any]]:
        """Objects of a kind that match a label selector."""
        arguments = [
            "get",
            kind,
            "--output",
            "json",
            _REQUEST_TIMEOUT,
            *(["--selector", selector] if selector else []),
        ]
        found: list[dict[str, Any]] = json.loads(self.run(arguments))["items"]
        return found

    def placed(self, fault: Fault, draw: int) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
        """The fault's command and undo for one of its pods; None if there is no such pod or Deployment.

        Args:
            fault: The fault.
            draw: Chooses among the pods.
        """
        if fault.deployment:
            found = self.run(
                ("get", "deployment", fault.deployment, "--ignore-not-found", "--output=name"),
                fault.namespace,
            )
            if not found.strip():
                return None
        values = {"pod": "", "node": ""}
        if fault.selector:
            pods = [
                pod for pod in self.items("pods", fault.selector) if pod["status"].get("phase") == "Running"
            ]
            if not pods:
                return None
            pod = pods[draw % len(pods)]
            values = {"pod": pod["metadata"]["name"], "node": pod["spec"].get("nodeName", "")}

        def filled(arguments: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(
                values.get(part.strip("{}"), part) if part in ("{pod}", "{node}") else part
                for part in arguments
            )

        return filled(fault.command), filled(fault.undo)

    def not_ready(self) -> list[str]:
        """Workloads and versions that have fewer ready replicas than they should have, or the API server."""
        try:
            return self._not_ready()
        except (RuntimeError, subprocess.TimeoutExpired):
            return ["API server"]

    def _not_ready(self) -> list[str]:
        missing = []
        for kind in ("statefulsets", "deployments"):
            for one in self.items(kind):
                ready, wanted = one["status"].get("readyReplicas", 0), one["spec"].get("replicas", 1)
                if ready < wanted:
                    missing.append(f"{kind[:-1]} {one['metadata']['name']}")
        for one in self.items("inferenceservices"):
            conditions = one.get("status", {}).get("conditions", [])
            if not any(each["type"] == "Ready" and each["status"] == "True" for each in conditions):
                missing.append(f"version {one['metadata']['name']}")
        return missing
