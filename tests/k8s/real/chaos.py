"""An hour of faults on a real cluster, with searches and clicks all the while; prints what that cost.

    kubectl -n kubeflow port-forward svc/gateway 8080:80 &
    kubectl -n kubeflow port-forward svc/postgres 5432:5432 &
    IMMR_TEST_KUBECONFIG=~/.kube/config PGPASSWORD=… python -m tests.k8s.real.chaos --minutes 60 \
        --gateway http://localhost:8080 --events postgresql://immr@localhost:5432/immr --photos photos/ --seed 1

A port-forward ends with its pod: for a whole run use the address of the Gateway, and a node port or load balancer for
PostgreSQL. The API server cannot cut itself off: name the commands that do, for example for kind with worker nodes
`--cut-api "docker pause immr-control-plane" --restore-api "docker unpause immr-control-plane"`. A refresh and a
deployment are started in the tools pod, if it runs.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx

from tests.k8s.real.faults import FAULTS, LASTS_S, Fault, api_server_cut, schedule
from tests.k8s.real.kubectl import Kubectl
from tests.k8s.real.ledger import BACK_WITHIN_S, Happened, Ledger

_POLL_S = 1.0
_SEARCH_TIMEOUT_S = 15.0


@dataclass(frozen=True)
class Traffic:
    """Shoppers who search and click.

    Attributes:
        gateway: The gateway's address.
        photos: Pictures to search with.
        rate: Searches a second; every second one is followed by a click on its first hit.
    """

    gateway: str
    photos: Sequence[bytes]
    rate: float = 5.0

    def run(self, ledger: Ledger, began: float, stop: threading.Event) -> None:
        """Search until `stop` is set; a slow answer does not delay the next search."""
        with (
            httpx.Client(base_url=self.gateway, timeout=_SEARCH_TIMEOUT_S) as client,
            ThreadPoolExecutor(64) as pool,
        ):
            for number in itertools.count():
                if stop.wait(max(0.0, began + number / self.rate - time.monotonic())):
                    return
                pool.submit(self._search, client, ledger, number, time.monotonic() - began)

    def _search(self, client: httpx.Client, ledger: Ledger, number: int, at_s: float) -> None:
        photo = self.photos[number % len(self.photos)]
        try:
            answer = client.post(
                "/v1/search", files={"image": photo}, data={"user_id": f"chaos-{number % 200}"}
            )
        except httpx.HTTPError as error:
            ledger.unanswered(at_s, type(error).__name__)
            return
        ledger.answered(at_s, answer.status_code, answer.headers.get("retry-after"))
        hits = answer.json().get("hits") if answer.status_code == 200 else None
        if hits and number % 2 == 0:
            token, now = hits[0]["click_token"], datetime.now(UTC).isoformat()
            body = {"events": [{"type": "click", "click_token": token, "ts": now}]}
            with suppress(httpx.HTTPError):  # a click without an answer is not acknowledged
                recorded = client.post("/v1/events", json=body)
                if recorded.is_success and not recorded.json().get("rejected"):
                    ledger.acknowledge(answer.json()["query_id"])


def inflict(
    cluster: Kubectl, fault: Fault, draw: int, at_s: float, lasts_s: float = LASTS_S
) -> Happened | None:
    """Let a fault happen and end it; returns when it was noticed and over, or None if no pod fits it.

    It is noticed once a workload is short of ready pods; one that no workload notices needs no name.
    """
    placed = cluster.placed(fault, draw)
    if placed is None:
        return None
    command, undo = placed
    happened = Happened(fault.name, at_s)
    began = time.monotonic()
    with suppress(
        RuntimeError, subprocess.TimeoutExpired
    ):  # a drain that does not end in time is a fault, too
        cluster.carry_out(fault, command)
    undone = not undo
    while time.monotonic() - began < BACK_WITHIN_S + lasts_s:
        passed = time.monotonic() - began
        if not undone and passed >= lasts_s:
            undone = _undone(cluster, fault, undo)
        if missing := cluster.not_ready():
            happened.named_after_s = happened.named_after_s or passed
            print(f"  {passed:5.0f} s: {', '.join(missing)}", flush=True)
        elif undone:
            happened.back_after_s = max(0.0, passed - (lasts_s if undo else 0.0))
            happened.named_after_s = happened.named_after_s or 0.0
            break
        time.sleep(_POLL_S)
    return happened


def _undone(cluster: Kubectl, fault: Fault, undo: Sequence[str]) -> bool:
    """Whether the undo worked; it is tried again, because no fault may outlast the run."""
    try:
        cluster.carry_out(fault, undo)
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        print(f"        the undo failed and is repeated: {error}", flush=True)
        return False
    return True


def run(
    cluster: Kubectl,
    traffic: Traffic,
    planned: Sequence[tuple[float, Fault]],
    seconds: float,
    lasts_s: float = LASTS_S,
) -> Ledger:
    """Let the planned faults happen, one after the other, while shoppers search and click."""
    ledger, stop, began = Ledger(), threading.Event(), time.monotonic()
    shoppers = threading.Thread(target=traffic.run, args=(ledger, began, stop))
    shoppers.start()
    try:
        for number, (at_s, fault) in enumerate(planned):
            time.sleep(max(0.0, began + at_s - time.monotonic()))
            now_s = time.monotonic() - began
            print(f"{now_s:6.0f} s  {fault.name}", flush=True)
            if happened := inflict(cluster, fault, number, now_s, lasts_s):
                ledger.faults.append(happened)
            else:
                print("        skipped: no such pod", flush=True)
        time.sleep(max(0.0, began + seconds - time.monotonic()))
    finally:
        stop.set()
        shoppers.join()
    return ledger


def clicks_in(events_url: str) -> set[str]:
    """The query ids of all clicks of this run's users in the event log."""
    import psycopg

    with psycopg.connect(events_url) as connection:
        query = "SELECT DISTINCT query_id FROM immr_events.clicks"
        return {query_id for (query_id,) in connection.execute(query)}


def report(ledger: Ledger, logged: Collection[str], out: Callable[[str], object] = print) -> bool:
    """Print faults and verdict as Markdown; returns whether everything was good enough."""
    out("| fault | at | noticed after | back after |\n|---|---|---|---|")
    for one in ledger.faults:
        noticed = "–" if one.named_after_s is None else f"{one.named_after_s:.0f} s"
        back = "not back" if one.back_after_s is None else f"{one.back_after_s:.0f} s"
        out(f"| {one.name} | {one.at_s:.0f} s | {noticed} | {back} |")
    verdict = ledger.verdict(logged)
    out("\n| what | found | good enough |\n|---|---|---|")
    for what, found, good in verdict:
        out(f"| {what} | {found} | {'yes' if good else '**no**'} |")
    for at_s, reason in ledger.failures[:20]:
        out(f"failed search at {at_s:.0f} s: {reason}")
    for query_id in sorted(ledger.acknowledged - set(logged))[:20]:
        out(f"lost click: {query_id}")
    return all(good for _, _, good in verdict)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit code is 1 if something was not good enough, 2 without a cluster."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--every", type=float, default=30.0, help="seconds from one fault to the next")
    parser.add_argument("--namespace", default="kubeflow", help="IMMR's")
    parser.add_argument("--gateway", default="http://localhost:8080")
    parser.add_argument("--events", default="postgresql://immr@localhost:5432/immr")
    parser.add_argument("--photos", type=Path, required=True, help="folder with pictures to search with")
    parser.add_argument("--cut-api", default="", help="shell command that cuts off the API server")
    parser.add_argument("--restore-api", default="", help="shell command that ends that")
    parser.add_argument("--rate", type=float, default=Traffic.rate, help="searches a second")
    names = [fault.name for fault in FAULTS]
    parser.add_argument(
        "--without",
        action="append",
        choices=names,
        default=[],
        metavar="FAULT",
        help=f"leave a fault out, for example where there is one node; may be repeated: {', '.join(names)}",
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    kubeconfig = os.environ.get("IMMR_TEST_KUBECONFIG")
    if not kubeconfig:
        print(
            "no cluster: set IMMR_TEST_KUBECONFIG to the kubeconfig of a cluster that may break",
            file=sys.stderr,
        )
        return 2
    photos = [file.read_bytes() for file in sorted(options.photos.iterdir()) if file.is_file()]
    cluster = Kubectl(kubeconfig, options.namespace)
    if bool(options.cut_api) != bool(options.restore_api):
        parser.error("--cut-api and --restore-api need each other")
    cut = [api_server_cut(options.cut_api, options.restore_api)] if options.cut_api else []
    faults = [fault for fault in FAULTS if fault.name not in options.without]
    planned = schedule([*faults, *cut], options.minutes, options.every, options.seed)
    traffic = Traffic(options.gateway, photos, options.rate)
    ledger = run(cluster, traffic, planned, options.minutes * 60)
    return 0 if report(ledger, clicks_in(options.events)) else 1


if __name__ == "__main__":
    sys.exit(main())
