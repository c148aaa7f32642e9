"""Kills a process just before its k-th change on disk, for every k.

Changes are found by Python's audit events (files opened for writing, renamed, deleted; folders made and removed), by
SQLAlchemy's commits, which write MLflow's database, and by swaps of folders, so no list of places has to be kept.
Left out is what changes nothing that anyone reads: temporary files and folders before their rename, folders that
exist already, and commits of transactions that wrote nothing. Within a write of C code (a page of SQLite, a segment
of Qdrant Edge) nothing is killed.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.util
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_PATHS = {  # places of the paths among an event's arguments
    "open": (0,),
    "os.rename": (0, 1),
    "os.remove": (0,),
    "os.mkdir": (0,),
    "os.rmdir": (0,),
    "os.chmod": (0,),
    "os.link": (0, 1),
    "os.symlink": (1,),
    "os.truncate": (0,),
}
PRELOADED = (
    "immr.loop.catalogue",
    "immr.loop.experiment.decide",
    "immr.loop.experiment.queue",
    "immr.loop.experiment.rollback",
    "immr.readout.formats.report",
    "immr.readout.readout",
    "duckdb",
    "alembic.script",
    "ibis",
    "immr.registry.relocation",
    "jinja2",
    "mlflow.tracking",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store",
)
"""Imported once, by the process that each killed one is a fork of."""


def killed_at(number: int, folder: Path, run: Callable[[Any], object], argument: Any) -> str:
    """Run a function in a process that is killed before this change below the folder.

    Args:
        number: The change, from 1.
        folder: Only changes below it count.
        run: A function that can be imported.
        argument: Its argument.

    Returns:
        The change that it was killed before; empty if the function makes fewer.

    Raises:
        AssertionError: The function raised an exception.
    """
    context = _context()
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(there, number, folder, run, argument))
    process.start()
    there.close()
    said = []
    try:
        while True:
            said.append(here.recv())
    except EOFError:
        process.join()
    if process.exitcode == -signal.SIGKILL:
        assert said, "killed by someone else"
        return str(said[-1])
    assert process.exitcode == 0, "\n".join(said) or process.exitcode
    return ""


@cache
def _context() -> Any:
    with mock.patch.object(tempfile, "tempdir", "/tmp"):  # the tests' own is deleted before the server ends
        multiprocessing.util.get_temp_dir()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, *PRELOADED])
    return context


def _run(said: Any, number: int, folder: Path, run: Callable[[Any], object], argument: Any) -> None:
    kill_before(number, folder, said.send)
    try:
        run(argument)
    except BaseException:
        said.send(traceback.format_exc())
        os._exit(1)
    os._exit(0)


def kill_before(number: int, folder: Path, last_words: Callable[[str], object]) -> None:
    """Kill this process before its change of this number below the folder; cannot be turned off."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    from immr.storage import atomic

    left = iter(range(number - 1, -1, -1))

    def change(what: str) -> None:
        if next(left, None) == 0:
            last_words(what)
            os.kill(os.getpid(), signal.SIGKILL)

    def audited(name: str, arguments: tuple[Any, ...]) -> None:
        if name in _PATHS and (path := _changed(name, arguments, folder)):
            change(f"{name} {path} in {_caller()}")

    writing: set[int] = set()  # connections with changes that are not committed

    def executed(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if not statement.lstrip().upper().startswith(("SELECT", "PRAGMA")):
            writing.add(id(connection))

    def committed(connection: Any) -> None:
        if id(connection) in writing:
            writing.discard(id(connection))
            change(f"commit in {_caller()}")

    exchange = atomic._exchange
    atomic._exchange = lambda new, old: change(f"swap {old} in {_caller()}") or exchange(new, old)  # type: ignore[func-returns-value]
    event.listen(Engine, "before_cursor_execute", executed)
    event.listen(Engine, "commit", committed)
    sys.addaudithook(audited)


def _changed(name: str, arguments: tuple[Any, ...], folder: Path) -> str:
    """The path that an event changes; empty if it changes nothing that anyone reads below the folder."""
    if name == "open" and not (arguments[2] or 0) & _WRITING:
        return ""
    paths = [arguments[place] for place in _PATHS[name]]
    shown = [os.fsdecode(path) for path in paths if isinstance(path, str | bytes | os.PathLike)]
    below = [path for path in map(Path, shown) if not path.is_absolute() or path.is_relative_to(folder)]
    if not below or _is_temporary(below[-1], folder) or (name == "os.mkdir" and below[-1].is_dir()):
        return ""
    return str(below[-1])


def _is_temporary(path: Path, folder: Path) -> bool:
    """Whether it is, or is in, what gets its name by a rename."""
    inner = path.relative_to(folder) if path.is_absolute() else path
    return any(part.startswith(".") for part in inner.parts)


def _caller() -> str:
    """The innermost lines of IMMR."""
    frames: list[str] = []
    frame: Any = sys._getframe()
    while frame is not None and len(frames) < 3:
        file = frame.f_code.co_filename
        if "/immr/" in file and "site-packages" not in file:
            frames.append(f"{Path(file).stem}:{frame.f_lineno}")
        frame = frame.f_back
    return " < ".join(frames)
