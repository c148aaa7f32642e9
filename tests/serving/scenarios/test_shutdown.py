"""A Bento stops under load without failing a request, and without blocking its event loop."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from immr.experiment import changes
from immr.experiment.file import save
from immr.settings import Settings
from immr.wiring import connect
from serving.bento.answering import VersionService
from tests.serving.scenarios.test_replacing_versions import gateway_process, shoppers
from tests.support import real_services, tiny_version
from tests.support.upstream_process import free_port
from tests.support.version_process import version_process


@pytest.mark.slow
def test_no_request_fails_while_a_bento_is_stopped(
    free_home: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path)
    folder = tiny_version.write_packaged(tmp_path / "immr-1")
    tiny_version.build_index(settings, folder, tiny_version.items(tmp_path / "pictures"))
    now = datetime.now(UTC)
    with ExitStack() as running:
        old, old_url = running.enter_context(real_services.bento(settings, folder, free_port()))
        new_url = running.enter_context(version_process(free_home / "immr-2", environment))
        save(changes.begin(("immr-1", old_url), {}, 0.0, now), settings.experiment_file)
        url = running.enter_context(gateway_process(settings))
        with shoppers(url) as asking:
            asking.wait_until_served_by("immr-1")
            save(changes.begin(("immr-2", new_url), {}, 0.0, now), settings.experiment_file)
            old.popen.send_signal(signal.SIGTERM)  # at once, while requests are in progress there
            asking.wait_until_served_by("immr-2", times=50)
        assert asking.trouble == set()
        assert old.popen.wait(timeout=30) == 0


def test_stopping_waits_for_a_search_without_blocking_the_event_loop(
    free_home: Path,
) -> None:
    service = VersionService(free_home / "immr-1", connect(Settings(home=free_home)))
    started, release = threading.Event(), threading.Event()

    def hang() -> str:
        started.set()
        assert release.wait(20)
        return "answered"

    async def stop_during_a_search() -> str:
        search = asyncio.create_task(service._in_pool(hang))
        await asyncio.to_thread(started.wait, 20)
        stopping = asyncio.create_task(service.stop())
        begun = time.monotonic()
        await asyncio.sleep(0.05)  # any pause: it returns in time only if the loop is free
        assert time.monotonic() - begun < 5, "the loop is free while the search is finished"
        assert not stopping.done()
        release.set()
        await stopping
        return await search

    timer = threading.Timer(15, release.set)  # or a blocked loop would hang for ever
    timer.start()
    assert asyncio.run(stop_during_a_search()) == "answered"
    timer.cancel()
