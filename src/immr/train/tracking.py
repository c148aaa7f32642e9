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

from immr.storage.atomic import write_atomically

Record = dict[str, Any]

_log = logging.getLogger(__name__)
_CLOSE_TIMEOUT_S = 30.0


class Tracker:
    """Journals every record to `metrics.jsonl`; a thread of its own sends them to the MLflow run, in order.

    `metrics.sent` counts those that MLflow took. What it did not take is tried once more at the end; what is
    still not there then waits in the journal for the next `Tracker` of the same run.
    """

    def __init__(self, journal: Path, tracking_url: str | None, run_id: str | None):
        journal.parent.mkdir(parents=True, exist_ok=True)
        self._journal, self._counter = journal, journal.with_suffix(".sent")
        records = _read(journal)
        self._told = {(name, record["step"]) for record in records for name in record.get("metrics", ())}
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
        """Note what the run was started with; once, however often it is started again."""
        if self._with_params:
            return
        self._with_params = True
        self._write({"params": {name: str(value) for name, value in values.items()}})

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Note numbers of a step; those that an earlier attempt at this run has told already are left out."""
        new = {name: value for name, value in values.items() if (name, step) not in self._told}
        if new:
            self._told |= {(name, step) for name in new}
            self._write({"metrics": new, "step": step})

    def close(self) -> None:
        """Wait for what is under way and replay what failed; never raises."""
        if not self._sender:
            return
        self._unsent.put(None)
        self._thread.join(_CLOSE_TIMEOUT_S)
        # in order, and no further than the first that fails again: each try at a dead server costs seconds
        if self._thread.is_alive() or not all(self._send(record) for record in self._failed):
            _log.warning(
                "MLflow did not take all records of this run; they wait in %s for the same command",
                self._journal,
            )

    def _write(self, record: Record) -> None:
        record = record | {"ts_ms": int(time.time() * 1000)}
        with self._journal.open("a") as file:
            file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())  # the checkpoint after it would not tell it again
        if self._sender:
            self._unsent.put(record)

    def _send_all(self) -> None:
        while (record := self._unsent.get()) is not None:
            # after one failure all wait for the replay, so that MLflow sees them in order
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
        """Whether MLflow took it."""
        try:
            self._log_batch(record)
        except Exception as error:  # whatever MLflow raises, training goes on
            _log.warning("MLflow at %s does not take records: %s", self._tracking_url, error)
            return False
        return True

    def _log_batch(self, record: Record) -> None:
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # its own default waits for minutes
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        from mlflow.entities import Metric, Param
        from mlflow.tracking import MlflowClient

        self._client = self._client or MlflowClient(tracking_uri=self._tracking_url)
        # the journal's own time: a record that is sent twice is the same row to MLflow
        ts_ms, step = record["ts_ms"], record.get("step", 0)
        self._client.log_batch(
            self._run_id,
            metrics=[Metric(name, value, ts_ms, step) for name, value in record.get("metrics", {}).items()],
            params=[Param(name, value) for name, value in record.get("params", {}).items()],
        )


def _read(journal: Path) -> list[Record]:
    """The records of attempts before this one; a last line that a power cut tore is taken out."""
    if not journal.is_file():
        return []
    lines = journal.read_text().splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines.pop()
        write_atomically(journal, "".join(lines))
    return [json.loads(line) for line in lines]
