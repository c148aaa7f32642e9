"""The chaos run: plan, ledger and verdict, and a short run with a stand-in for kubectl and for the gateway.

The run itself needs a cluster: `python -m tests.k8s.real.chaos --help`.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.k8s import schemas
from tests.k8s.real import chaos
from tests.k8s.real.faults import FAULTS, PODS, TOOLS, Fault, api_server_cut, schedule
from tests.k8s.real.kubectl import Kubectl
from tests.k8s.real.ledger import Happened, Ledger
from tests.k8s.test_manifests import built, pods
from tests.support import upstream_process

CRASH = Fault("gateway killed", ("delete", "pod", "{pod}"), selector=PODS["gateway"])
DRAIN = Fault("node drained", ("drain", "{node}"), ("uncordon", "{node}"), PODS["gateway"])


def kubectl(folder: Path, not_ready_for: int = 0) -> Kubectl:
    """A stand-in that notes its commands and has one gateway, which is not ready in the first answers."""
    program = folder / "kubectl"
    program.write_text(f"""#!{sys.executable}
import json, pathlib, sys
folder = pathlib.Path({str(folder)!r})
arguments = sys.argv[5:]
with (folder / "commands").open("a") as file:
    file.write(" ".join(arguments) + "\\n")
asked = (folder / "commands").read_text().count("get statefulsets")
ready = asked > {not_ready_for}
pod = {{"metadata": {{"name": "gateway-0"}}, "spec": {{"nodeName": "node-1"}}, "status": {{"phase": "Running"}}}}
status = {{"readyReplicas": 2 if ready else 1}}
gateway = {{"metadata": {{"name": "gateway"}}, "spec": {{"replicas": 2}}, "status": status}}
items = {{"pods": [pod], "statefulsets": [gateway]}}
if arguments[0] == "get":
    print(json.dumps({{"items": items.get(arguments[1], [])}}))
if arguments[0] == "fail":
    sys.exit("first line\\nno such thing")
""")
    program.chmod(0o755)
    return Kubectl(str(folder / "config"), "shop", str(program))


def commands(folder: Path) -> list[str]:
    return [line for line in (folder / "commands").read_text().splitlines() if not line.startswith("get")]


def test_every_fault_happens_before_any_happens_again() -> None:
    planned = schedule(FAULTS, minutes=60, every_s=30, seed=1)
    assert len(planned) == 119 and planned[0][0] == 30 and planned[-1][0] == 3570
    counts = Counter(fault.name for _, fault in planned)
    assert (
        set(counts) == {fault.name for fault in FAULTS} and max(counts.values()) - min(counts.values()) <= 1
    )
    assert planned == schedule(FAULTS, 60, 30, seed=1) != schedule(FAULTS, 60, 30, seed=2)
    assert schedule(FAULTS, minutes=0.5, every_s=30, seed=1) == []


def test_faults_concern_pods_and_workloads_that_there_are() -> None:
    def matches(selector: str, labels: dict[str, str]) -> bool:
        wanted, *excluded = selector.split(",")
        name, value = wanted.split("=")
        return labels.get(name) == value and all(
            labels.get(one.split("!=")[0]) != one.split("!=")[1] for one in excluded
        )

    made = [template["metadata"]["labels"] for _, template in pods("production") if "metadata" in template]
    # pods that operators create
    made += [{"app.kubernetes.io/name": "immr-search"}, {"app.kubernetes.io/name": "immr-training"}]
    made += [{"pipelines.kubeflow.org/v2_component": "true"}]
    made += [yaml.safe_load((schemas.ROOT / "k8s" / "tools" / "pod.yaml").read_text())["metadata"]["labels"]]
    for what, selector in {**PODS, "tools": TOOLS}.items():
        assert any(matches(selector, labels) for labels in made), what
    workloads = {f"{one['kind'].lower()}/{one['metadata']['name']}" for one in built("production")}
    named = {
        part for fault in FAULTS for part in fault.command if part.startswith(("statefulset/", "deployment/"))
    }
    assert named and named <= workloads


def test_versions_are_restarted_through_their_inference_service() -> None:
    """KServe 0.20 undoes `rollout restart` of the Deployments that it owns."""
    (fault,) = (fault for fault in FAULTS if fault.name == "versions rolled")
    assert fault.command[:2] == fault.undo[:2] == ("annotate", "inferenceservice")
    for page in (schemas.ROOT / "docs").glob("*.md"):
        restarts = [line for line in page.read_text().splitlines() if "rollout restart" in line]
        assert not [line for line in restarts if "immr-search" in line], page


def test_a_search_fails_unless_it_is_answered_or_asked_to_come_back() -> None:
    ledger = Ledger()
    ledger.answered(1.0, 200, None)
    ledger.answered(2.0, 503, "1")
    ledger.answered(3.0, 503, None)
    ledger.unanswered(4.0, "ConnectError")
    assert ledger.searches == {"answered": 1, "asked to come back": 1, "failed": 2}
    assert ledger.failures == [(3.0, "status 503"), (4.0, "ConnectError")]


def good() -> Ledger:
    ledger = Ledger(faults=[Happened("page killed", 30.0, named_after_s=0.0, back_after_s=0.0)])
    ledger.answered(1.0, 200, None)
    ledger.acknowledge("q1")
    return ledger


def test_a_run_without_losses_is_good_enough() -> None:
    printed: list[str] = []
    assert chaos.report(good(), {"q1", "of another user"}, printed.append)
    assert "| page killed | 30 s | 0 s | 0 s |" in printed


@pytest.mark.parametrize("wrong", ["search", "click", "noticed", "back", "idle"])
def test_each_loss_is_named(wrong: str) -> None:
    ledger = good()
    if wrong == "search":
        ledger.unanswered(7.0, "ReadTimeout")
    if wrong == "click":
        ledger.acknowledge("q2")
    if wrong == "noticed":
        ledger.faults.append(Happened("MLflow killed", 60.0, named_after_s=61.0, back_after_s=70.0))
    if wrong == "back":
        ledger.faults.append(Happened("node drained", 60.0, named_after_s=1.0))
    if wrong == "idle":
        ledger.searches.clear()
    bad = {what: found for what, found, fine in ledger.verdict({"q1"}) if not fine}
    assert len(bad) == 1
    printed: list[str] = []
    assert not chaos.report(ledger, {"q1"}, printed.append)
    assert ("lost click: q2" in printed) == (wrong == "click")
    if wrong == "back":
        assert bad == {"everything back within 120 s": "1 of 2; not: node drained"}


def test_a_fault_is_ended_and_timed(tmp_path: Path) -> None:
    happened = chaos.inflict(kubectl(tmp_path, not_ready_for=1), DRAIN, 0, 30.0, lasts_s=0.0)
    assert commands(tmp_path) == ["drain node-1", "uncordon node-1"]
    assert happened is not None and happened.named_after_s is not None
    assert happened.back_after_s is not None and happened.back_after_s >= happened.named_after_s


class Cut(Kubectl):
    """Cut off from its API server while the file exists."""

    def items(self, kind: str, selector: str = "") -> list[dict[str, Any]]:
        if Path(self.kubeconfig).exists():
            raise RuntimeError("the connection was refused")
        return super().items(kind, selector)


def test_an_api_server_that_is_cut_off_is_noticed_and_comes_back(tmp_path: Path) -> None:
    there = kubectl(tmp_path)
    cluster = Cut(there.kubeconfig, there.namespace, there.program)
    fault = api_server_cut(f"touch {cluster.kubeconfig}", f"rm {cluster.kubeconfig}")
    happened = chaos.inflict(cluster, fault, 0, 30.0, lasts_s=0.5)
    assert happened is not None and happened.named_after_s is not None
    assert happened.back_after_s is not None
    assert not Path(cluster.kubeconfig).exists()


def test_an_undo_that_fails_is_repeated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    second = f"test -e {tmp_path}/tried || {{ touch {tmp_path}/tried; exit 1; }}"
    happened = chaos.inflict(kubectl(tmp_path), api_server_cut("true", second), 0, 30.0, lasts_s=0.0)
    assert happened is not None and happened.back_after_s is not None
    assert "the undo failed and is repeated" in capsys.readouterr().out


def test_commands_in_the_tools_pod_exist() -> None:
    """A refresh and a deployment are ours to start, so their commands are checked here."""
    inside = [fault.command[3:] for fault in FAULTS if fault.selector == TOOLS]
    assert len(inside) == 2
    for command in inside:
        program = command if command[0] == "python" else ("python", "-m", "immr.cli", *command[1:])
        upto = program.index("--on-cluster") if "--on-cluster" in program else len(program)
        shown = subprocess.run([sys.executable, *program[1:upto], "--help"], check=False, capture_output=True)
        assert shown.returncode == 0, shown.stderr


@pytest.mark.parametrize(("free", "filled"), [(300 << 20, 300 << 20), (60 << 30, 0)])
def test_a_volume_is_filled_without_filling_memory_or_the_nodes_disk(
    free: int, filled: int, tmp_path: Path
) -> None:
    """It held as many zeros in memory as the disk had room; kind's volumes have the size of the machine's disk."""
    (fault,) = (one for one in FAULTS if one.name == "events' volume full")
    code = (
        "import resource, shutil, types; resource.setrlimit(resource.RLIMIT_AS, (200 << 20, 200 << 20)); "
        f"shutil.disk_usage = lambda _: types.SimpleNamespace(free={free}); {fault.command[-1]}"
    ).replace("/immr/events", str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == bool(filled), done.stderr
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) == filled


def test_a_fault_without_a_pod_is_skipped(tmp_path: Path) -> None:
    cluster = kubectl(tmp_path)
    assert chaos.inflict(nobody(cluster), CRASH, 0, 30.0) is None


def test_an_operator_that_the_cluster_does_not_have_is_not_stopped(tmp_path: Path) -> None:
    """Its undo would fail until the end of the fault's time, with no fault."""

    class Without(Kubectl):
        def run(self, arguments: Sequence[str], namespace: str = "") -> str:
            return "" if arguments[:2] == ("get", "deployment") else super().run(arguments, namespace)

    there = kubectl(tmp_path)
    (stop,) = (fault for fault in FAULTS if fault.name == "Trainer stopped")
    assert there.placed(stop, 0) == (stop.command, stop.undo)
    assert chaos.inflict(Without(there.kubeconfig, there.namespace, there.program), stop, 0, 30.0) is None


def test_the_tools_pod_is_not_a_step() -> None:
    """It has a step's label, and nobody starts it again."""
    assert PODS["step"].split(",")[1] == TOOLS.replace("=", "!=")


def nobody(cluster: Kubectl) -> Kubectl:
    class Empty(Kubectl):
        def items(self, kind: str, selector: str = "") -> list[dict[str, Any]]:
            return []

    return Empty(cluster.kubeconfig, cluster.namespace, cluster.program)


def test_a_command_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="kubectl fail: no such thing"):
        kubectl(tmp_path).run(["fail"])


def test_a_short_run_searches_clicks_and_keeps_its_books(tmp_path: Path) -> None:
    photos = [upstream_process.picture(number) for number in range(3)]
    with upstream_process.upstream() as url:
        traffic = chaos.Traffic(url, photos, rate=20.0)
        ledger = chaos.run(kubectl(tmp_path), traffic, [(0.2, CRASH)], seconds=1.0)
        seen = upstream_process.seen_by(url)
    assert ledger.searches["failed"] == 0 and ledger.searches["answered"] >= 2
    assert [fault.name for fault in ledger.faults] == ["gateway killed"]
    assert commands(tmp_path) == ["delete pod gateway-0"]
    assert ledger.acknowledged and len(seen["events"]) == len(ledger.acknowledged)
    assert {"type", "click_token", "ts"} == set(seen["events"][0][0])


def test_without_a_cluster_the_command_says_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("IMMR_TEST_KUBECONFIG", raising=False)
    assert chaos.main(["--photos", str(tmp_path)]) == 2
    assert "set IMMR_TEST_KUBECONFIG" in capsys.readouterr().err


def test_faults_can_be_left_out_and_the_rate_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "1.jpg").write_bytes(b"photo")
    seen: list[Any] = []
    monkeypatch.setenv("IMMR_TEST_KUBECONFIG", "config")
    monkeypatch.setattr(chaos, "clicks_in", lambda url: set())
    monkeypatch.setattr(chaos, "run", lambda *arguments: seen.extend(arguments) or good())
    without = [f"--without={fault.name}" for fault in FAULTS[1:]]
    assert (
        chaos.main(["--photos", str(tmp_path), "--rate", "2", "--minutes", "2", *without]) == 1
    )  # q1 is lost
    _, traffic, planned, seconds = seen
    assert {fault.name for _, fault in planned} == {FAULTS[0].name} and (traffic.rate, seconds) == (
        2.0,
        120.0,
    )
    with pytest.raises(SystemExit):
        chaos.main(["--photos", str(tmp_path), "--without", "gateway kiled"])
