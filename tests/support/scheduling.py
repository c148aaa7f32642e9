"""Which process of pytest-xdist runs which tests, and what happens when one of them dies."""

import signal
import subprocess
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

STARTS_WITH = 2  # a process starts a test when it knows the one after it


class RoomsAndOneSpark(LoadFileScheduling):
    """All tests of a file in one process, and those on Spark in one too, because each process starts a JVM.

    A process takes the next file from the room it is in, whose libraries it has imported and whose servers it has
    started. It leaves for a room of its own when none of them is left, and helps another process last.
    """

    def __init__(self, config: pytest.Config, log: Any) -> None:
        super().__init__(config, log)
        self._rooms: dict[Any, str] = {}

    def remove_node(self, node: Any) -> str | None:
        """Gives what a dead process left to the others, and returns the test that it died in.

        xdist 3.8 also gives them the files that the process had finished, and then waits forever for a result.
        """
        left = self.assigned_work.pop(node)
        self._rooms.pop(node, None)
        to_do = [(scope, test) for scope, tests in left.items() for test, done in tests.items() if not done]
        if not to_do:
            return None
        scope, deadly = to_do[0]
        left[scope][deadly] = True
        self.workqueue.update({scope: tests for scope, tests in left.items() if not all(tests.values())})
        for other in self.nodes:
            self._reschedule(other)
        return deadly

    def _split_scope(self, nodeid: str) -> str:
        return "spark" if "[spark" in nodeid else str(super()._split_scope(nodeid))

    def _assign_work_unit(self, node: Any) -> None:
        taken = {room for other, room in self._rooms.items() if other is not node}
        stays = [scope for scope in self.workqueue if _room(scope) == self._rooms.get(node)]
        free = [scope for scope in self.workqueue if _room(scope) not in taken]
        chosen = [*stays, *free, *self.workqueue][0]
        self._rooms[node] = _room(chosen)
        self.workqueue.move_to_end(chosen, last=False)
        super()._assign_work_unit(node)
        if self.workqueue and self._pending_of(self.assigned_work[node]) < STARTS_WITH:
            self._assign_work_unit(node)


def end_of(process: "subprocess.Popen[bytes]") -> str:
    """How a process that pytest-xdist has lost ended: its signal or exit status."""
    try:
        code = process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        return "it no longer answers"
    return signal.Signals(-code).name if code < 0 else f"exit status {code}"


def _room(scope: str) -> str:
    """The folder below `tests/`; the Spark tests are in governance."""
    return "governance" if scope == "spark" else scope.split("/")[1]
