"""The demo's output: a live line with a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

PROGRESS = re.compile(r": (?P<done>[\d,]+) of (?P<total>[\d,]+) \w+, .*/s")
"""A line of `immr.machine.progress_bar`."""
TASK = re.compile(r"\w+\[\d+\] (?P<name>[\w-]+) …\s*")
"""A step's first line in `pipelines.step_lines`."""


class Chapter:
    """One step of the demo; `follow` reads the lines that its process prints."""

    def __init__(self, console: Console, progress: Progress | None, title: str) -> None:
        self._console, self._progress, self._title = console, progress, title
        self._task = progress.add_task(title, total=None) if progress else None
        self._where = ""

    def follow(self, line: str) -> None:
        """Show the current task; a line with a step's progress moves the bar."""
        if task := TASK.fullmatch(line):
            self._where = task["name"]
            if self._progress is None:
                self._console.print(f"  · {self._where}", highlight=False)
            else:
                self._show(completed=0, total=None)
        elif self._progress is not None and (seen := PROGRESS.search(line)):
            done, total = (int(seen[name].replace(",", "")) for name in ("done", "total"))
            self._show(completed=done, total=total)

    def count(self, done: int, total: int) -> None:
        """Move the bar."""
        if self._progress is not None:
            self._show(completed=done, total=total)

    def _show(self, completed: int, total: int | None) -> None:
        assert self._progress is not None and self._task is not None
        where = f" · {self._where}" if self._where else ""
        self._progress.update(
            self._task, description=f"{self._title}{where}", completed=completed, total=total
        )


class Narration:
    """Prints chapters and records how long each took."""

    def __init__(self) -> None:
        self.console = Console(emoji=False)
        self.seconds: dict[str, float] = {}

    @contextmanager
    def chapter(self, name: str, title: str) -> Iterator[Chapter]:
        """One step: shows its title while it runs, and its duration at the end."""
        started = time.monotonic()
        if self.console.is_terminal:
            with _bars(self.console) as progress:
                yield Chapter(self.console, progress, title)
        else:
            self.console.print(f"▸ {title}", highlight=False)
            yield Chapter(self.console, None, title)
        self.seconds[name] = round(time.monotonic() - started, 1)
        self.console.print(f"[green]✓[/] {title} [dim]{self.seconds[name]:.1f} s[/]", highlight=False)

    def say(self, sentence: str) -> None:
        """Print one sentence."""
        self.console.print(f"  {sentence}", highlight=False, soft_wrap=True)


def _bars(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
