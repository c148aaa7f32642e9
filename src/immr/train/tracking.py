"""Metrics of a run: written to a journal on disk, then sent to MLflow, whose failure does not stop training."""

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

from immr.storage.atomic import write_atomically

Record = dict[str, Any]

_log = logging.getLogger(__name__)
_CLOSE_TIMEOUT_S = 30.0


class Tracker:
    """Journals every record in `metrics.jsonl`; a background thread sends them to the MLflow run, in order.

    `metrics.sent` counts the records that MLflow has accepted. The others are retried once at the end; those that
    fail again stay in the journal for the next `Tracker` of the same run.
    """

    def __init__(self, journal: Path, tracking_url: str | None, run_id: str | None):
        journal.parent.mkdir(parents=True, exist_ok=True)
        self._journal, self._counter = journal, journal.with_suffix(".sent")
        records = _read(journal)
        self._recorded = {(name, record["step"]) for record in records for name in record.get("metrics", ())}
        self._with_params = any("params" in record for record in records)
        self._sent = int(self._counter.read_text()) if self._counter.is_file() else 0
        self._unsent: queue.Queue[Record | None] = queue.Queue()
        self._sender = _Sender(tracking_url, run_id) if tracking_url and run_id else None
        self._failed: list[Record] = []
        self._thread = threading.Thread(target=self._send_all, daemon=True)
        if self._sender:
            for record in records[self._sent :]:
                self._unsent.put(record)
            self._thread.start()

    def params(self, values: Mapping[str, object]) -> None:
        """Record the run's parameters, once per run, however often it restarts."""
        if self._with_params:
            return
        self._with_params = True
        self._write({"params": {name: str(value) for name, value in values.items()}})

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Record values of a step, except those that an earlier attempt has recorded."""
        new = {name: value for name, value in values.items() if (name, step) not in self._recorded}
        if new:
            self._recorded |= {(name, step) for name in new}
            self._write({"metrics": new, "step": step})

    def close(self) -> None:
        """Wait for pending records and retry failed ones; never raises."""
        if not self._sender:
            return
        self._unsent.put(None)
        self._thread.join(_CLOSE_TIMEOUT_S)
        # in order, until one fails again: each attempt with a dead server takes seconds
        if self._thread.is_alive() or not all(self._send(record) for record in self._failed):
            _log.warning(
                "MLflow did not accept all records of this run: run the same command again to send the rest of %s",
                self._journal,
            )

    def _write(self, record: Record) -> None:
        record = record | {"ts_ms": int(time.time() * 1000)}
        with self._journal.open("a") as file:
            file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())  # after the next checkpoint it would not be computed again
        if self._sender:
            self._unsent.put(record)

    def _send_all(self) -> None:
        while (record := self._unsent.get()) is not None:
            # after a failure all records wait for the retry, so that MLflow receives them in order
            if self._failed or not self._send(record):
                self._failed.append(record)

    def _send(self, record: Record) -> bool:
        assert self._sender is not None
        if not self._sender.send(record):
            return False
        self._sent += 1
        write_atomically(self._counter, str(self._sent))
        return True


class _Sender:
    def __init__(self, tracking_url: str, run_id: str):
        self._tracking_url, self._run_id = tracking_url, run_id
        self._client: Any = None

    def send(self, record: Record) -> bool:
        """Whether MLflow accepted the record."""
        try:
            self._log_batch(record)
        except Exception as error:  # training continues whatever MLflow raises
            _log.warning("MLflow at %s does not accept records: %s", self._tracking_url, error)
            return False
        return True

    def _log_batch(self, record: Record) -> None:
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # the default waits for minutes
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        from mlflow.entities import Metric, Param
        from mlflow.tracking import MlflowClient

        self._client = self._client or MlflowClient(tracking_uri=self._tracking_url)
        # the journal's time: a record that is sent twice is one row in MLflow
        ts_ms, step = record["ts_ms"], record.get("step", 0)
        self._client.log_batch(
            self._run_id,
            metrics=[Metric(name, value, ts_ms, step) for name, value in record.get("metrics", {}).items()],
            params=[Param(name, value) for name, value in record.get("params", {}).items()],
        )


def _read(journal: Path) -> list[Record]:
    """The records of earlier attempts; an incomplete last line is removed."""
    if not journal.is_file():
        return []
    lines = journal.read_text().splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines.pop()
        write_atomically(journal, "".join(lines))
    return [json.loads(line) for line in lines]
