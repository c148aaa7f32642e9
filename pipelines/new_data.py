"""Starts a refresh for data that no run has seen yet, once per state of the tables' files."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from immr.data.content_hashes import listing_hash

if TYPE_CHECKING:
    from kfp.client import Client

log = logging.getLogger(__name__)

_UNFINISHED = {"PENDING", "RUNNING", "CANCELING", "PAUSED"}
_PAGE = 100


@dataclass(frozen=True)
class Checked:
    """What a check did and why, and whether it left new data without a run."""

    sentence: str
    waits: bool = False


@dataclass
class NewData:
    """Compares a shop's data with the runs of an experiment on Kubeflow Pipelines.

    A run's name ends with a hash of what a listing shows of its data (`listing_hash`), so a check reads no table, and
    the server itself remembers which data have been seen. A run that was created although the answer got lost is
    found again, and two watchers start no run twice unless they check in the same second. The same rows written
    again start a run, whose steps find their earlier results.

    Attributes:
        data: Folder, URL or mapping of the shop's tables.
        name: First part of the runs' names.
        experiment_id: The experiment of the runs.
        start: Creates a run with this name and returns its id.
    """

    client: Client
    data: str
    name: str
    experiment_id: str
    start: Callable[[str], str]
    _seen: str = ""

    def check(self, settled: bool = False) -> Checked:
        """Start a run if the data are new.

        Data that have changed since the last check may still be written, so the run starts at the next check that
        finds them unchanged.

        Args:
            settled: The data are complete: do not wait for a second check.

        Raises:
            ContractError: A table is missing, or its place does not answer.
        """
        state = listing_hash(self.data)[:16]
        settled, self._seen = settled or state == self._seen, state
        name = f"{self.name}-{state}"
        if known := self._runs(_called(name)):
            return Checked(f"no new data: run {known[0].run_id} has seen {state}")
        if not settled:
            return Checked(f"new data {state}: waiting until they stay the same", waits=True)
        if unfinished := [run for run in self._runs() if run.state in _UNFINISHED]:
            return Checked(f"new data {state}: waiting for run {unfinished[0].run_id} to end", waits=True)
        return Checked(f"new data {state}: started run {self.start(name)}")

    def check_or_log(self) -> Checked | None:
        """`check`, but any failure is logged and left to the next check: a server or a share may be down."""
        try:
            return self.check()
        except Exception as error:  # kfp raises whatever its parts raise
            log.warning("the check failed and is repeated: %s", error)
            return None

    def _runs(self, matching: str = "") -> list[Any]:
        """The newest runs of the experiment."""
        page = self.client.list_runs(
            page_size=_PAGE,
            sort_by="created_at desc",
            experiment_id=self.experiment_id,
            filter=matching or None,
        )
        return page.runs or []


def _called(name: str) -> str:
    predicate = {"operation": "EQUALS", "key": "display_name", "stringValue": name}
    return json.dumps({"predicates": [predicate]})
