"""Writes the state of this release, from which the tests of later releases upgrade. Run it before a release.

`python -m tests.e2e.upgrade.write_state 0.2.0` writes `states/0.2.0.tar.xz`: a home with two registered, packaged,
indexed and deployed versions, a running A/B test and recorded events, and the same events as a PostgreSQL dump. The
Bentos carry the release's code. Everything is synthetic; the key of click tokens is left out.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from immr.events.event_log import EventLog
from immr.events.postgres.log import PostgresEventLog
from immr.experiment.changes import begin
from immr.loop.experiment.save_change import events_of, save_change
from immr.packaging import bento
from immr.packaging.application import application_folder
from immr.search.ranking import RankingRecipe
from immr.settings import Settings
from immr.types import Click, Impression, ModelVersion, Role, SearchRecord
from immr.wiring import Parts, connect
from tests.support import postgres_server, tiny_version
from tests.support.postgres_server import PostgresServer

STATES = Path(__file__).parent / "states"
STARTED = datetime(2024, 5, 1, tzinfo=UTC)
SEARCHES = 6
CLICKS = 3
_BLOCK = 1 << 20
_LEFT_OUT = {"token.key", "cache", "trained"}


def write_home(home: Path) -> None:
    """Write the whole state into a new folder."""
    settings = Settings(home=home)
    parts = connect(settings)
    trained = tiny_version.write_files(home / "trained")
    catalogue = tiny_version.items(home / "pictures")
    for number in (1, 2):
        version = _register(parts, trained, number)
        tag = bento.build(
            version, trained, RankingRecipe(), application_folder() / "serving", settings.bento_home
        )
        parts.index.build(version, catalogue, tiny_version.embed(trained, catalogue))
        role: Role = "champion" if number == 1 else "challenger"
        parts.deployer.apply(version, tag, role)
        parts.registry.set_role(role, version)
    urls = {each.role: each.url for each in parts.deployer.current()}
    experiment = begin(
        ("immr-1", urls["champion"]), {"challenger": ("immr-2", urls["challenger"])}, 0.5, STARTED
    )
    save_change(parts, experiment, events_of(experiment, "started"))
    record(parts.events)
    parts.close()


def _register(parts: Parts, trained: Path, number: int) -> ModelVersion:
    key = f"key-{number}"
    run_id = parts.registry.runs.start(key, {"recipe": "tiny"}, key=key)
    version = parts.registry.register(
        trained,
        key,
        run_id,
        dim=tiny_version.DIM,
        preprocessing_hash=tiny_version.PREPROCESSING.hash,
        manifest_hash="a" * 64,
        recipe="tiny",
    )
    parts.registry.runs.finish(run_id)
    return version


def record(events: EventLog) -> None:
    """Record searches of five items each, with a click in every second."""
    for number in range(SEARCHES):
        name, version = ("champion", "immr-1") if number % 2 else ("challenger", "immr-2")
        ts, query, user = STARTED + timedelta(minutes=number), f"query-{number}", f"user-{number}"
        search = SearchRecord(query, user, ts, name, version, 20.0, 5)
        shown = [
            Impression(query, item_id, place, user, name, version, ts)
            for place, item_id in enumerate(tiny_version.COLOURS, start=1)
        ]
        events.record_search(search, shown)
        if number < CLICKS:
            events.record_clicks([Click(f"event-{number}", "click", query, "red", ts)])


def dump_events(file: Path) -> None:
    """Record the events in a PostgreSQL server, and dump its database as SQL."""
    with postgres_server.serving() as server:
        log = PostgresEventLog(server.url)
        record(log)
        log.close()
        where = ["-h", "127.0.0.1", "-p", str(server.port), "-U", "immr"]
        command = [server.programs / "pg_dump", *where, "--no-owner", "--inserts", "-f", str(file), "immr"]
        subprocess.run(command, check=True)


def restore_events(folder: Path, server: PostgresServer, database: str) -> str:
    """Load an unpacked dump into a new database; returns its URL."""
    where = ["-h", "127.0.0.1", "-p", str(server.port), "-U", "immr"]
    subprocess.run([server.programs / "createdb", *where, database], check=True)
    command = [server.programs / "psql", *where, "-q", "-d", database, "-v", "ON_ERROR_STOP=1"]
    subprocess.run([*command, "-f", folder / "events.sql"], check=True, stdout=subprocess.DEVNULL)
    return server.url.removesuffix("/immr") + f"/{database}"


def pack(folder: Path, file: Path) -> None:
    """Write an archive of the state."""

    def kept(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if set(Path(member.name).parts) & _LEFT_OUT:
            return None
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member

    file.parent.mkdir(exist_ok=True)
    with tarfile.open(file, "w:xz", preset=9) as archive:
        for name in ("home", "events.sql"):
            archive.add(folder / name, name, filter=kept)


def unpack(release: str, folder: Path) -> Path:
    """Unpack a release's state, with holes instead of the index's empty blocks; returns the home."""
    with tarfile.open(STATES / f"{release}.tar.xz") as archive:
        for member in archive:
            content = archive.extractfile(member)
            if content is None:
                archive.extract(member, folder, filter="data")
                continue
            with (folder / member.name).open("wb") as file:
                while block := content.read(_BLOCK):
                    file.seek(len(block), 1) if not any(block) else file.write(block)
                file.truncate(member.size)
    return folder / "home"


def settings_of(home: Path) -> Settings:
    """Settings with the engine that wrote the index: the first default was Qdrant's local mode."""
    local = any((home / "index").rglob("storage.sqlite"))
    return Settings(home=home, index_url=f"file://{home}/index") if local else Settings(home=home)


if __name__ == "__main__":
    [release] = sys.argv[1:]
    with tempfile.TemporaryDirectory() as temporary:
        write_home(Path(temporary) / "home")
        dump_events(Path(temporary) / "events.sql")
        pack(Path(temporary), STATES / f"{release}.tar.xz")
