"""The code of earlier releases is deleted once no process runs it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from immr.packaging import unpacked_code


def wheel(folder: Path, line: str) -> Path:
    path = folder / f"immr-{len(line)}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("immr_of_a_bento.py", f"RELEASE = {line!r}")
    return path


@contextmanager
def running(code: str, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A Python process that has printed a line and waits for its standard input to be closed."""
    with subprocess.Popen(
        [sys.executable, "-c", f"{code}\nprint(flush=True)\nimport sys; sys.stdin.read()", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | environment,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process


# unpacks, and then becomes another program, as `immr.packaging.serve` becomes `bentoml serve`
BECOMES_ANOTHER = """
import os, sys
from pathlib import Path
from immr.packaging.unpacked_code import unpack
if len(sys.argv) == 4:
    unpack(Path(sys.argv[1]), Path(sys.argv[2]))
    os.execv(sys.executable, [sys.executable, "-c", sys.argv[3] , "1"])
"""
WAITS = "print(flush=True); import sys; sys.stdin.read()"


def test_what_a_process_runs_stays_and_the_rest_is_deleted(tmp_path: Path) -> None:
    code = tmp_path / "code"
    os.close(unpacked_code.unpack(wheel(tmp_path, "earlier release"), code / "earlier"))
    with running(BECOMES_ANOTHER, str(wheel(tmp_path, "now")), str(code / "now"), WAITS):
        assert unpacked_code.delete_unused(code) == [code / "earlier"]
        assert (code / "now" / "immr_of_a_bento.py").read_text() == "RELEASE = 'now'"
    assert unpacked_code.delete_unused(code) == [code / "now"]


def test_the_code_of_a_process_that_took_no_lock_stays(tmp_path: Path) -> None:
    """Of the release before this one, or of a worker that outlived its supervisor."""
    folder = tmp_path / "code" / "earlier"
    os.close(unpacked_code.unpack(wheel(tmp_path, "earlier"), folder))
    with running("import immr_of_a_bento", PYTHONPATH=str(folder)):
        assert unpacked_code.delete_unused(tmp_path / "code") == []
    assert unpacked_code.delete_unused(tmp_path / "code") == [folder]


def test_deleted_code_is_unpacked_again(tmp_path: Path) -> None:
    folder, source = tmp_path / "code" / "a", wheel(tmp_path, "a")
    os.close(unpacked_code.unpack(source, folder))
    unpacked_code.delete_unused(tmp_path / "code")
    assert not folder.exists()
    os.close(unpacked_code.unpack(source, folder))
    assert (folder / "immr_of_a_bento.py").is_file()


def test_a_process_that_is_killed_while_it_deletes_leaves_no_half_of_the_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, source = tmp_path / "code" / "a", wheel(tmp_path, "a")
    os.close(unpacked_code.unpack(source, folder))
    with monkeypatch.context() as killed:

        def after_one_file(path: Path, **_: object) -> None:
            (path / "immr_of_a_bento.py").unlink()
            raise KeyboardInterrupt

        killed.setattr(shutil, "rmtree", after_one_file)
        with pytest.raises(KeyboardInterrupt):
            unpacked_code.delete_unused(tmp_path / "code")
    lock = unpacked_code.unpack(source, folder)
    assert (folder / "immr_of_a_bento.py").is_file()
    assert unpacked_code.delete_unused(tmp_path / "code") == []
    os.close(lock)
    assert sorted(path.name for path in (tmp_path / "code").iterdir()) == ["a", "a.lock"]


def test_a_damaged_wheel_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "broken.whl").write_bytes(b"no archive")
    with pytest.raises(zipfile.BadZipFile):
        unpacked_code.unpack(tmp_path / "broken.whl", tmp_path / "code" / "a")
    assert [path.name for path in (tmp_path / "code").iterdir()] == ["a.lock"]


def test_without_any_code_there_is_nothing_to_delete(tmp_path: Path) -> None:
    assert unpacked_code.delete_unused(tmp_path / "code") == []
