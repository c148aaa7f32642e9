"""What a run says of itself: a journal on disk first, then MLflow, which may fail without stopping it."""

from __future__ import annotations

import json
import logging
import os
import queue
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_log = logging.getLogger(__name__)
_CLOSE_TIMEOUT_S = 30.0


class Tracker:
    """Journals every record to `metrics.jsonl`; a thread of its own sends them to the MLflow run.

    What could not be sent is tried once more at the end; what then still is not there stays in the journal.
    """

    def __init__(self, journal: Path, tracking_url: str | None, run_id: str | None):
        journal.parent.mkdir(parents=True, exist_ok=True)
        self._journal = journal
        self._unsent: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._sender = _Sender(tracking_url, run_id) if tracking_url and run_id else None
        self._failed: list[dict[str, Any]] = []
        self._thread = threading.Thread(target=self._send_all, daemon=True)
        if self._sender:
            self._thread.start()

    def params(self, values: Mapping[str, object]) -> None:
        """Note what the run was started with."""
        self._write({"params": {name: str(value) for name, value in values.items()}})

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Note numbers of a step."""
        self._write({"metrics": dict(values), "step": step})

    def close(self) -> None:
        """Wait for what is under way and replay what failed; never raises."""
        if not self._sender:
            return
        self._unsent.put(None)
        self._thread.join(_CLOSE_TIMEOUT_S)
        # in order, and no further than the first that fails again: each try at a dead server costs seconds
        taken = not self._thread.is_alive() and all(self._sender.send(record) for record in self._failed)
        if not taken:
            _log.warning("MLflow did not take all records of this run; they are in %s", self._journal)

    def _write(self, record: dict[str, Any]) -> None:
        with self._journal.open("a") as file:
            file.write(json.dumps(record) + "\n")
        if self._sender:
            self._unsent.put(record)

    def _send_all(self) -> None:
        assert self._sender is not None
        while (record := self._unsent.get()) is not None:
            # after one failure all wait for the replay, so that MLflow sees them in order
            if self._failed or not self._sender.send(record):
                self._failed.append(record)


class _Sender:
    def __init__(self, tracking_url: str, run_id: str):
        self._tracking_url, self._run_id = tracking_url, run_id
        self._client: Any = None

    def send(self, record: dict[str, Any]) -> bool:
        """Whether MLflow took it."""
        try:
            self._log_batch(record)
        except Exception as error:  # whatever MLflow raises, training goes on
            _log.warning("MLflow at %s does not take records: %s", self._tracking_url, error)
            return False
        return True

    def _log_batch(self, record: dict[str, Any]) -> None:
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # its own default waits for minutes
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        from mlflow.entities import Metric, Param
        from mlflow.tracking import MlflowClient

        self._client = self._client or MlflowClient(tracking_uri=self._tracking_url)
        now_ms, step = int(time.time() * 1000), record.get("step", 0)
        self._client.log_batch(
            self._run_id,
            metrics=[Metric(name, value, now_ms, step) for name, value in record.get("metrics", {}).items()],
            params=[Param(name, value) for name, value in record.get("params", {}).items()],
        )
