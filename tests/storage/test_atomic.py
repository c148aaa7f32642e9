import errno
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest

from immr.errors import DataError
from immr.storage import atomic
from immr.storage.atomic import replace_folder_atomically, write_atomically, writing_atomically


def test_writing_creates_the_folder_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    write_atomically(tmp_path / "deep" / "note", "new")
    assert (tmp_path / "deep" / "note").read_text() == "new"
    assert (tmp_path / "deep" / "note").stat().st_mode & 0o777 == 0o644
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["note"]


def test_content_written_in_parts_replaces_the_file_at_the_end_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "table"
    with writing_atomically(path) as temporary:
        temporary.write_text("first")
        assert not path.exists()
    with pytest.raises(ZeroDivisionError), writing_atomically(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "first"
    assert path.stat().st_mode & 0o777 == 0o644
    assert [entry.name for entry in path.parent.iterdir()] == ["table"]


@pytest.fixture(params=["exchange", "two steps"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Swap in one system call, and as on file systems that have none."""
    if request.param == "two steps":
        monkeypatch.setattr(atomic, "_exchange_function", lambda: None)
    return str(request.param)


@pytest.mark.usefixtures("either_way")
def test_a_folder_replaces_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "old").touch()
    with replace_folder_atomically(tmp_path / "set") as folder:
        (folder / "new").touch()
        assert (tmp_path / "set" / "old").exists()
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_symbolic_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "old").touch()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with replace_folder_atomically(tmp_path / "link") as folder:
        (folder / "new").touch()
    assert (tmp_path / "link").is_symlink()
    assert [path.name for path in (tmp_path / "target").iterdir()] == ["new"]


def test_an_error_in_the_block_keeps_the_old_folder(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    with pytest.raises(KeyboardInterrupt), replace_folder_atomically(tmp_path / "set") as folder:
        (folder / "half").touch()
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_an_error_names_the_file_and_not_the_temporary_one(tmp_path: Path) -> None:
    """Each attempt had another temporary name, so `immr serve` logged the same failure every two seconds."""
    with pytest.raises(OSError, match=rf"'{tmp_path}/{'x' * 300}'"):
        write_atomically(tmp_path / ("x" * 300), b"")


@pytest.mark.usefixtures("either_way")
def test_a_failing_rename_keeps_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fills up between the first and the second rename."""
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "old").touch()
    real, calls = Path.rename, []

    def rename(self: Path, target: Path) -> Path:
        if self == temporary:
            calls.append(self)
            if len(calls) > 1 or atomic._exchange_function() is not None:
                raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, target)

    with pytest.raises(OSError, match="No space"), replace_folder_atomically(tmp_path / "set") as temporary:
        (temporary / "new").touch()
        monkeypatch.setattr(Path, "rename", rename)
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["old"]
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_only_expected_files_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for content in ("1", "2"):
        with replace_folder_atomically(tmp_path / "out", {"ours"}) as folder:
            (folder / "ours").write_text(content)
    assert (tmp_path / "out" / "ours").read_text() == "2"
    (tmp_path / "out" / "theirs").touch()
    (tmp_path / "file").touch()
    for out in (tmp_path / "out", tmp_path / "file"):
        with pytest.raises(DataError, match="would be lost"), replace_folder_atomically(out, {"ours"}):
            pass
    assert (tmp_path / "out" / "theirs").exists()


WRITES = 400


def _write(path: Path, name: str, two_steps: bool, errors: "multiprocessing.Queue[str]") -> None:
    if two_steps:
        atomic._exchange_function = lambda: None  # type: ignore[assignment]
    for _ in range(WRITES):
        try:
            with replace_folder_atomically(path) as folder:
                (folder / "content").write_text(name)
        except OSError as error:
            errors.put(repr(error))
    errors.put("done")


def _two_writers(path: Path, two_steps: bool, meanwhile: Callable[[], None]) -> list[str]:
    """Replace one folder from two processes; the errors they met."""
    context = multiprocessing.get_context("fork")
    errors: multiprocessing.Queue[str] = context.Queue()
    writers = [
        context.Process(target=_write, args=(path, name, two_steps, errors)) for name in ("a" * 99, "b" * 99)
    ]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        meanwhile()
    found = [errors.get(timeout=5)]
    while found.count("done") < 2:
        found.append(errors.get(timeout=5))
    return [error for error in found if error != "done"]


def test_two_writers_never_take_the_folder_from_a_reader(tmp_path: Path) -> None:
    path = tmp_path / "set"
    with replace_folder_atomically(path) as folder:
        (folder / "content").write_text("a" * 99)
    if not atomic._exchange(path, path):
        pytest.skip("this file system cannot swap two names")
    present: list[bool] = []
    assert _two_writers(path, two_steps=False, meanwhile=lambda: present.append(path.is_dir())) == []
    assert len(present) > WRITES and all(present)
    assert (path / "content").read_text() in ("a" * 99, "b" * 99)
    assert [entry.name for entry in tmp_path.iterdir()] == ["set"]


def test_without_a_swap_two_writers_still_leave_one_whole_folder(tmp_path: Path) -> None:
    path = tmp_path / "set"
    assert _two_writers(path, two_steps=True, meanwhile=lambda: None) == []
    assert (path / "content").read_text() in ("a" * 99, "b" * 99)
    assert [entry.name for entry in tmp_path.iterdir()] == ["set"]
