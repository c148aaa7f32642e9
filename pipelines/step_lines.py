"""What `python -m pipelines` prints on this machine: a line per step. Everything else goes to a log file."""

from __future__ import annotations

import io
import re
import shutil
import time
from collections.abc import Callable
from typing import TextIO

_COLOURS = re.compile(r"\x1b\[\d+m")
_STARTED = re.compile(r" - INFO - Executing task '(?P<task>[\w-]+)'")
_ENDED = re.compile(r" - (INFO|ERROR) - Task '[\w-]+' finished with status (?P<status>\w+)")
_RUN = re.compile(r"\s+\"run\": \"(?P<run>[\w-]+)\",?")  # among the step's inputs
# a line of `immr.machine.progress_bar`
_COUNT, _TIME = r"[\d,]+( of [\d,]+)? \w+, .*/s.*", r"[\d.]+ (s|min|h) so far"
_PROGRESS = re.compile(rf"(?:\[KFP Executor [^\]]*\]: )?(?P<progress>\S.*: ({_COUNT}|{_TIME}))")
_NOT_OURS = re.compile(r"\[KFP Executor |[{}]|\S+:\d+: \w*Warning: |\d\d:\d\d:\d\d\.\d{3} - |-+$")
_KEPT_LINES = 5
_FOUND_NOTHING = ("finish",)  # its page repeats what the other steps found


class StepLines(io.TextIOBase):
    """Takes the place of stdout while `kfp.local` runs a pipeline.

    Args:
        out: Where the lines for people go. On a terminal, a step's progress is one line that changes.
        log: Where every line goes.
        recorded: What a step has recorded about itself by now, or about its failure; empty for nothing. Takes the
            run's id and the step.
        name: Begins every line, because several pipelines may share a terminal.
    """

    def __init__(self, out: TextIO, log: TextIO, recorded: Callable[[str, str], str], name: str) -> None:
        self._out, self._log, self._recorded, self._name = out, log, recorded, name
        self._live = out.isatty()
        self._unfinished = ""
        self._run = self._step = ""
        self._began = 0.0
        self._said: list[str] = []  # the newest lines that the step itself printed

    def write(self, text: str) -> int:
        """Take some output of KFP and of the step's process."""
        *lines, self._unfinished = (self._unfinished + text).split("\n")
        for line in lines:
            plain = _COLOURS.sub("", line)
            self._log.write(f"{plain}\n")
            self._take(plain)
        self._log.flush()
        return len(text)

    def end_step(self, state: str) -> None:
        """Print the line of the running step, if there is one: its state, its time and what it found."""
        if not self._step:
            return
        said = self._said if state == "done" else self._said[-1:]
        found = self._recorded(self._run, self._step) or "; ".join(said)
        if state == "done" and self._step in _FOUND_NOTHING:
            found = ""
        took = _duration(time.monotonic() - self._began)
        self._show(f"{self._step} {state}, {took}{f': {found}' if found else ''}")
        self._step = ""

    def _take(self, line: str) -> None:
        if started := _STARTED.search(line):
            self._step = re.sub(r"-\d+$", "", started["task"])  # the same step in another branch is package-2
            self._began, self._said = time.monotonic(), []
            self._show(f"{self._step} …", passing=True)
        elif ended := _ENDED.search(line):
            self.end_step("done" if ended["status"] == "SUCCESS" else "failed")
        elif run := _RUN.fullmatch(line):
            self._run = run["run"]
        elif progress := _PROGRESS.fullmatch(line.strip()):
            self._show(f"{self._step}: {progress['progress']}", passing=True)
        elif self._step:
            said = line.removeprefix("    ")  # KFP's indent
            if said.strip() and said[0] != " " and not _NOT_OURS.match(said):
                self._said = [*self._said[1 - _KEPT_LINES :], said.strip()]

    def _show(self, line: str, passing: bool = False) -> None:
        line = "\n".join(f"{self._name} {each}" for each in line.split("\n"))
        if self._live:
            shown = line[: shutil.get_terminal_size().columns - 1] if passing else f"{line}\n"
            self._out.write(f"\r\x1b[K{shown}")
        else:
            self._out.write(f"{line}\n")
        self._out.flush()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
