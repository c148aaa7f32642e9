"""The Qdrant peers of `production`: their start script with a stand-in for the binary, probes and shutdown."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.k8s.test_manifests import OVERLAYS, named
from tests.support.upstream_process import free_port

PEERS = ("qdrant-0", "qdrant-1", "qdrant-2")


def pod(overlay: str) -> dict[str, Any]:
    found: dict[str, Any] = named(overlay, "StatefulSet", "qdrant")["spec"]["template"]["spec"]
    return found


def container(overlay: str) -> dict[str, Any]:
    (found,) = pod(overlay)["containers"]
    return dict(found)


class Peers:
    """Peers whose start script runs here: a member of the cluster is a port that accepts connections."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports = {name: free_port() for name in PEERS}

    def storage(self, name: str) -> Path:
        folder = self._folder / name / "storage"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @contextmanager
    def listening(self, *names: str) -> Iterator[None]:
        with ExitStack() as stack:
            for name in names:
                stack.enter_context(closing(socket.create_server(("127.0.0.1", self._ports[name]))))
            yield

    def start(self, name: str) -> dict[str, str]:
        """The options that Qdrant is started with."""
        place = self.storage(name).parent
        binary = place / "qdrant"
        binary.write_text('#!/bin/sh\necho "options $@"\ntouch storage/raft_state.json\n')
        binary.chmod(0o755)
        *shell, option = container("production")["command"]
        (script,) = container("production")["args"]
        script = script.replace("sleep 5", "sleep 0.01")
        for peer, port in self._ports.items():  # instead of the names that only a cluster resolves
            script = f"port_of_{peer.replace('-', '_')}={port}\n{script}"
        script = script.replace(
            '"</dev/tcp/$peer.qdrant-headless/6335"',
            '"</dev/tcp/127.0.0.1/$(eval echo \\$port_of_${peer/-/_})"',
        )
        assert "/dev/tcp/127.0.0.1" in script
        done = subprocess.run(
            [*shell, option, script],
            cwd=place,
            env=os.environ | {"HOSTNAME": name},
            capture_output=True,
            text=True,
            check=True,
        )
        words = done.stdout.splitlines()[-1].split()
        assert words.pop(0) == "options"
        return dict(zip(words[::2], words[1::2], strict=True))


@pytest.fixture
def peers(tmp_path: Path) -> Peers:
    return Peers(tmp_path)


def address(name: str) -> str:
    return f"http://{name}.qdrant-headless:6335"


def test_the_first_start_makes_one_cluster(peers: Peers) -> None:
    assert peers.start("qdrant-0") == {"--uri": address("qdrant-0")}
    for name in PEERS[1:]:
        with ThreadPoolExecutor() as pool:
            waits = pool.submit(peers.start, name)
            with pytest.raises(TimeoutError):
                waits.result(timeout=0.5)
            with peers.listening("qdrant-0"):
                joined = waits.result(timeout=30)
        assert joined == {"--uri": address(name), "--bootstrap": address("qdrant-0")}


def test_peers_restart_together_without_waiting_for_each_other(peers: Peers) -> None:
    """All have a state, with which Qdrant ignores --bootstrap."""
    for name in PEERS:
        (peers.storage(name) / "raft_state.json").touch()
    assert peers.start("qdrant-0") == {"--uri": address("qdrant-0")}
    assert peers.start("qdrant-1")["--bootstrap"] != address("qdrant-1"), "Qdrant would start a cluster"


@pytest.mark.parametrize("left", ["qdrant-1", "qdrant-2"])
def test_peer_0_joins_the_others_if_its_claim_is_lost(peers: Peers, left: str) -> None:
    """Alone it would be ready at once, and every third search would find no collection."""
    with peers.listening(left):
        joined = {"--uri": address("qdrant-0"), "--bootstrap": address(left)}
        assert peers.start("qdrant-0") == joined
    # refused, because the lost peer still has shards: it has written a state, but must not start alone even then
    assert peers.start("qdrant-0")["--bootstrap"] == address("qdrant-1")
    with peers.listening(left):
        assert peers.start("qdrant-0") == joined


def test_a_new_peer_joins_while_peer_0_is_down(peers: Peers) -> None:
    with peers.listening("qdrant-1"):
        assert peers.start("qdrant-2")["--bootstrap"] == address("qdrant-1")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_peer_that_copies_its_shards_is_not_restarted(overlay: str) -> None:
    """Qdrant's /readyz fails until all shards of the peer are healthy, which takes as long as copying them."""
    one = container(overlay)
    for probe in ("startupProbe", "livenessProbe"):
        assert one[probe]["httpGet"]["path"] == "/livez"
    assert one["startupProbe"]["periodSeconds"] * one["startupProbe"]["failureThreshold"] >= 1800
    assert one["readinessProbe"]["httpGet"]["path"] == "/readyz"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_stopping_peer_is_qdrant_itself_and_has_time(overlay: str) -> None:
    """The image's entrypoint.sh ends as soon as it has passed SIGTERM on, and the kernel kills Qdrant with it."""
    one = container(overlay)
    (script,) = one["args"]
    assert one["command"] == ["/bin/bash", "-c"] and "exec ./qdrant" in script.splitlines()[-1]
    assert "entrypoint.sh" not in script
    seconds = one["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert seconds > 0 and seconds + 30 < pod(overlay)["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_qdrant_may_open_as_many_files_as_the_node_allows(overlay: str, tmp_path: Path) -> None:
    """Its storage is many mapped files; it does not raise its soft limit, which may be 1,024."""
    binary = tmp_path / "qdrant"
    binary.write_text("#!/bin/bash\necho $(ulimit -Sn) $(ulimit -Hn)\n")
    binary.chmod(0o755)
    (tmp_path / "storage").mkdir()
    (tmp_path / "storage" / "raft_state.json").touch()
    one = container(overlay)
    (script,) = one["args"]
    done = subprocess.run(
        ["/bin/bash", "-c", f"ulimit -Sn 256; ulimit -Hn 512; {script}"],
        cwd=tmp_path,
        env=os.environ | {"HOSTNAME": "qdrant-0"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["512", "512"]
