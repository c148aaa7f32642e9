"""The commands that fit the state of the test, and the buttons that run them for whoever has the page's key.

Without `IMMR_PAGE_KEY_FILE` nothing can be run. The key comes in the body of each request. The page has no cookies,
so another site cannot act in a visitor's name.
"""

from __future__ import annotations

import hmac
import logging
import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from immr.errors import SettingsError
from immr.experiment.changes import in_percent
from immr.experiment.revision import revision_of

if TYPE_CHECKING:
    from immr.experiment.definition import Experiment
    from immr.readout.decision import Decision
    from immr.settings import Settings

log = logging.getLogger(__name__)

LEAST_KEY_LENGTH = 16
_TIMEOUT_S = 300.0
_MAX_OUTPUT = 2000
_SHARES = (0.05, 0.1, 0.25, 0.5)
_DECIDE = "immr experiment decide --apply"


@dataclass(frozen=True, slots=True)
class Action:
    """A command that is possible now.

    Attributes:
        label: Of the button.
        command: The command, as one would type it.
        effect: What it does.
        changes: Whether it changes the test; only such commands have a button.
    """

    label: str
    command: str
    effect: str
    changes: bool = True


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a command: an HTTP status, a sentence and the command's output."""

    status: int
    sentence: str
    output: str = ""


def possible_actions(experiment: Experiment, decision: Decision | None = None) -> list[Action]:
    """The actions that fit the state of the test; the decision that follows now only changes a label."""
    if experiment.state == "running" and experiment.remaining:
        found = [_decide(experiment, decision)]
        now = experiment.remaining[0].weight
        more = next((share for share in _SHARES if share > now), None)
        if more is not None and more * len(experiment.challengers) < 1:
            effect = f"Gives each challenger {in_percent(more)} of the users; the readout starts over."
            found.append(Action("More users", f"immr experiment ramp --share {in_percent(more)}", effect))
        stop = "All users get the champion; nothing is promoted."
        report = "Writes this readout as one HTML file."
        return [
            *found,
            Action("Stop the test", "immr experiment stop", stop),
            Action("Write a report", "immr experiment report --out test.html", report, changes=False),
        ]
    start = "Compares the deployed challengers with the champion."
    found = [Action("Start a test", "immr experiment start", start)]
    if experiment.previous is not None:
        back = experiment.previous.model_version
        effect = f"All users get {back} again at once."
        found.append(Action("Roll back", "immr experiment rollback", effect))
    return found


def _decide(experiment: Experiment, decision: Decision | None) -> Action:
    """The button's label names the present decision; its command decides again."""
    versions = {side.name: side.model_version for side in experiment.variants}
    label = "Decide"
    if decision is not None and decision.winner is not None:
        label = f"Promote {versions[decision.winner.challenger]}"
    elif decision is not None and decision.action in ("keep", "roll back"):
        label = f"Keep {experiment.champion.model_version}"
    effect = "Promotes the winner, or ends challengers that lost; waits if it is too early to tell."
    return Action(label, _DECIDE, effect)


class Actions:
    """Runs commands that the page shows.

    Args:
        settings: `page_key_file` holds the key; the commands run with all of these settings.
        experiment: Reads the experiment, not from a cache; None without one.
        decision: The decision that follows now; None without an experiment.

    Raises:
        SettingsError: The key cannot be read, or it is too short.
    """

    def __init__(
        self,
        settings: Settings,
        experiment: Callable[[], Experiment | None],
        decision: Callable[[], Decision | None],
    ) -> None:
        self._settings, self._experiment, self._decision = settings, experiment, decision
        self._running = threading.Lock()
        if settings.page_key_file is not None:
            self._key()

    @property
    def enabled(self) -> bool:
        """Whether the page has a key."""
        return self._settings.page_key_file is not None

    def run(self, key: str, label: str, command: str, revision: str) -> Outcome:
        """Run one of the commands that are possible now, and wait for it.

        A page may have been open for hours, so a button only works while the experiment is the one that it was
        shown for, and promotes only what its label names.

        Args:
            key: What the visitor typed.
            label: Of the button.
            command: As the page showed it.
            revision: Of the experiment that the page showed it for.
        """
        if not self.enabled:
            return Outcome(
                403, "This page has no key, so it runs no commands: set IMMR_PAGE_KEY_FILE where it runs."
            )
        if not hmac.compare_digest(key.strip().encode(), self._key().encode()):
            log.warning("refused %r: wrong key", command[:100])
            return Outcome(403, "That is not the page's key. Nothing was changed.")
        if not self._running.acquire(blocking=False):
            return Outcome(409, "Another command is running. Wait until it has ended.")
        try:
            if not self._is_possible(label, command, revision):
                return Outcome(
                    409,
                    "Nothing was done: the test or its decision has changed since the page showed this button. "
                    "Look at it again.",
                )
            return self._ran([*shlex.split(command)[1:], "--if-revision", revision], command)
        finally:
            self._running.release()

    def _is_possible(self, label: str, command: str, revision: str) -> bool:
        experiment = self._experiment()
        if experiment is None or revision_of(experiment) != revision:
            return False
        # any other command works without the event log
        decision = self._decision() if command == _DECIDE else None
        possible = [each for each in possible_actions(experiment, decision) if each.changes]
        return (label, command) in [(each.label, each.command) for each in possible]

    def _ran(self, words: Sequence[str], command: str) -> Outcome:
        # getpass, which names the user in the history, reads LOGNAME first
        environment = os.environ | self._settings.environment() | {"LOGNAME": "the page"}
        log.info("running `%s`", command)
        try:
            done = subprocess.run(
                [sys.executable, "-m", "immr.cli", *words],
                env=environment,
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Outcome(
                504,
                f"`{command}` had not finished after {_TIMEOUT_S:.0f} s and was stopped. Check the test's state "
                "below before you run it again.",
            )
        output = _end_of(f"{done.stdout}\n{done.stderr}".strip())
        if done.returncode:
            log.warning("`%s` ended with %d: %s", command, done.returncode, output)
            return Outcome(502, f"`{command}` ended with {done.returncode}.", output)
        return Outcome(200, f"`{command}` is done.", output)

    def _key(self) -> str:
        """Read each time, so that a new key counts at once."""
        path = self._settings.page_key_file
        assert path is not None
        try:
            key = path.read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            raise SettingsError(f"IMMR_PAGE_KEY_FILE={path} cannot be read: {error}") from error
        if len(key) < LEAST_KEY_LENGTH:
            raise SettingsError(
                f"IMMR_PAGE_KEY_FILE={path} has fewer than {LEAST_KEY_LENGTH} characters: use a longer key"
            )
        return key


def _end_of(output: str) -> str:
    """The last lines, without one that is cut."""
    return output if len(output) <= _MAX_OUTPUT else output[-_MAX_OUTPUT:].partition("\n")[2]
