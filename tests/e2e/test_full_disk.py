"""A disk that fills up: each command says so, nothing that was accepted is lost, and all works once there is room."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from immr.data.pictures.remote.downloads import Downloads
from immr.errors import EventLogError, ImmrError, IndexMismatchError, IndexUnavailableError
from immr.events.delivery import Delivery
from immr.events.journal import EventJournal
from immr.events.journal_entries import Shown
from immr.events.query_photos import PhotoStore
from immr.events.sqlite.log import SqliteEventLog
from immr.index.vector_index import Changes
from immr.loop.experiment.recovery import complete_interrupted
from immr.storage.atomic import replace_folder_atomically, write_atomically
from immr.storage.json_lines import JsonLines
from immr.types import SearchRecord
from immr.wiring import connect
from tests.e2e import test_kill_points as kills
from tests.e2e.test_kill_points import home  # noqa: F401  a fixture
from tests.support import tiny_version
from tests.support.kept_photos import by_query
from tests.support.patience import until
from tests.support.small_disk import SmallDisk, mounted

NOW = datetime(2026, 5, 1, tzinfo=UTC)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with mounted(tmp_path / "disk", megabytes=256) as small:
        yield small


def shown(number: int) -> Shown:
    search = SearchRecord(f"query-{number}", "ann", NOW, "champion", "immr-1", 20, 10)
    return Shown(search, tuple((f"item-{place}", place) for place in range(1, 11)))


def test_accepted_events_reach_the_log_once_there_is_room(disk: SmallDisk) -> None:
    file = disk.folder / "events.db"
    SqliteEventLog(file).close()
    delivery = Delivery(lambda: SqliteEventLog(file), EventJournal(disk.folder / "journal"))
    accepted = []
    disk.fill(64 * 1024)
    with pytest.raises(EventLogError, match="disk is not full"):
        for number in range(10_000):
            delivery.shown(shown(number))
            accepted.append(number)
    disk.free()
    delivery.shown(shown(10_000))
    accepted.append(10_000)
    until(lambda: delivery.waiting_bytes == 0)
    delivery.close()
    log = SqliteEventLog(file)
    recorded = {str(query) for query in log.searches()["query_id"].to_pylist()}
    log.close()
    assert recorded == {f"query-{number}" for number in accepted} and len(accepted) > 1


def test_photos_that_were_kept_are_found_although_a_line_was_cut_short(disk: SmallDisk) -> None:
    """The next line was appended to the fragment, so two photos were lost that had been reported as kept."""
    photos, kept, photo = PhotoStore(disk.folder / "photos"), [], b"\xff\xd8\xff photo"
    photos.keep("first", photo)
    disk.fill(0)
    with pytest.raises(OSError, match="No space left"):
        for number in range(10_000):
            photos.keep(f"query-{number}", photo)
            kept.append(f"query-{number}")
    disk.free()
    photos.keep("last", photo)
    assert set(by_query(photos)) == {"first", *kept, "last"} and kept


def test_files_logs_and_folders_are_whole(disk: SmallDisk) -> None:
    log, file, folder = JsonLines(disk.folder / "log.jsonl"), disk.folder / "file", disk.folder / "folder"
    write_atomically(file, b"old")
    with replace_folder_atomically(folder) as aside:
        (aside / "name").write_bytes(b"old")
    written = []
    disk.fill(8 * 1024)
    with pytest.raises(OSError, match="No space left"):
        for number in range(10_000):
            log.append({"number": number})
            written.append(number)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(file, b"new" * 100_000)
    with pytest.raises(OSError, match="No space left"), replace_folder_atomically(folder) as aside:
        (aside / "name").write_bytes(b"new" * 100_000)
    assert (file.read_bytes(), (folder / "name").read_bytes()) == (b"old", b"old")
    disk.free()
    log.append({"number": -1})
    assert [row["number"] for row in log.read()] == [*written, -1]
    assert sorted(path.name for path in disk.folder.iterdir()) == ["file", "folder", "log.jsonl"]


def test_pictures_are_fetched_again_and_none_is_taken_for_broken(
    disk: SmallDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "immr.data.pictures.remote.requests.PictureRequests.read", lambda self, url: url.encode() * 1000
    )
    urls = [f"https://shop.example/{number}.jpg" for number in range(200)]
    downloads = Downloads(disk.folder / "pictures")
    downloads.fetch(urls[:10])
    disk.fill(256 * 1024)
    with pytest.raises(OSError, match="No space left"):
        downloads.fetch(urls)
    disk.free()
    found = downloads.fetch(urls)
    assert all(each.path and each.path.read_bytes() == url.encode() * 1000 for url, each in found.items())


def test_a_collection_that_does_not_fit_is_refused_and_the_one_that_serves_goes_on(disk: SmallDisk) -> None:
    """Qdrant Edge ended the process with SIGBUS: the command, and each version that opened the new content."""
    settings = kills.at(disk.folder)
    catalogue = tiny_version.items(disk.folder / "pictures")
    folder = tiny_version.write_files(disk.folder / "version")
    made = tiny_version.version()
    open_one = partial(connect(settings).index.open, made.id, made.dim, made.preprocessing_hash)
    with pytest.raises(IndexMismatchError):
        open_one()
    disk.fill(30 * 2**20)
    with pytest.raises(IndexUnavailableError, match="needs 67 MB to create a collection: free some space"):
        tiny_version.build_index(settings, folder, catalogue)
    disk.free()
    tiny_version.build_index(settings, folder, catalogue[1:])
    with closing(open_one()) as serving:
        tiny_version.build_index(settings, folder, catalogue)
        change = Changes(catalogue[:1], tiny_version.embed(folder, catalogue[:1]), (), (9,))
        connect(settings).index.change(made, change)
        disk.fill(2**20)
        with pytest.raises(IndexUnavailableError, match="17 MB to change a collection: free some space"):
            serving.refresh()
        assert serving.count() == len(catalogue) - 1
        disk.free()
        assert serving.refresh() == 1 and serving.count() == len(catalogue)


def test_a_new_collection_is_loaded_where_it_was_built(disk: SmallDisk) -> None:
    """The first load takes up to 47 MB, so a version that opened it on a nearly full disk was killed."""
    settings = kills.at(disk.folder)
    folder = tiny_version.write_files(disk.folder / "version")
    tiny_version.build_index(settings, folder, tiny_version.items(disk.folder / "pictures"))
    disk.fill(20 * 2**20)
    made = tiny_version.version()
    with closing(connect(settings).index.open(made.id, made.dim, made.preprocessing_hash)) as serving:
        assert serving.count() == len(tiny_version.COLOURS)


def complete(settings: kills.Settings) -> None:
    """Finish what a command left undone."""
    complete_interrupted(connect(settings))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ["start", "deploy", "promote", "roll back", "stop"])
def test_a_command_that_finds_no_room_does_its_work_when_it_is_run_again(
    home: kills.Settings,  # noqa: F811
    disk: SmallDisk,
    tmp_path: Path,
    name: str,
) -> None:
    """A report that did not fit was never written."""
    case = kills.CASES[name]
    for folder in ("prepared", "whole"):
        shutil.copytree(home.home if folder == "prepared" else tmp_path / "prepared", tmp_path / folder)
        (case.before if folder == "prepared" else case.command)(kills.at(tmp_path / folder))
    expected = kills.agreement(kills.at(tmp_path / "whole"))
    failed = 0
    for kib in (0, 4, 12, 20, 28, 32, 40, 48, 64):
        settings = kills.at(disk.folder / f"with-{kib}")
        shutil.copytree(tmp_path / "prepared", settings.home)
        disk.fill(kib * 1024)
        fitted = True
        try:
            case.command(settings)
        except (ImmrError, OSError) as error:
            assert any(word in str(error) for word in ("full", "No space left")), error
            fitted = False
            failed += 1
        finally:
            disk.free()
        kills.check_what_is_read(settings, f"{kib} KiB")
        again = case.command if not fitted else complete  # as `immr serve` does
        again(settings)
        found = kills.agreement(settings)
        if fitted:  # a test ends even if its report could not be made, which is logged
            found["reports"] = expected["reports"]
        assert found == expected, f"{kib} KiB"
        shutil.rmtree(settings.home)
    assert failed
