"""A real Prometheus scrapes the real gateway, and its recording rule agrees with the event log."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
import pytest

from immr.experiment.changes import begin
from immr.experiment.file import save
from immr.settings import Settings
from immr.wiring import connect
from serving.gateway.app import Gateway, create_gateway_app
from tests.support import tiny_version
from tests.support.in_process import serve, served_version, wait_ready
from tests.support.patience import until
from tests.support.upstream_process import free_port, process_on

PROMETHEUS = shutil.which("prometheus")
RULES = Path(__file__).parents[3] / "dashboards" / "prometheus" / "rules.yaml"
pytestmark = pytest.mark.skipif(
    PROMETHEUS is None, reason="no prometheus: apt-get install prometheus (make prometheus)"
)
T = TypeVar("T")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


@pytest.fixture
def gateway(settings: Settings, tmp_path: Path) -> Iterator[str]:
    """Two versions behind a gateway, all over HTTP."""
    catalogue = tiny_version.items(tmp_path / "pictures")
    with ExitStack() as stack:
        urls = []
        for number in (1, 2):
            folder = tiny_version.write_packaged(tmp_path / f"immr-{number}", number)
            tiny_version.build_index(settings, folder, catalogue, number)
            urls.append(stack.enter_context(served_version(settings, folder)))
            wait_ready(urls[-1])
        running = begin(("immr-1", urls[0]), {"challenger": ("immr-2", urls[1])}, 0.5, datetime.now(UTC))
        save(running, settings.experiment_file)
        server = serve(create_gateway_app(Gateway(connect(settings))))
        stack.callback(server.stop)
        yield server.url


@pytest.fixture
def prometheus(gateway: str, tmp_path: Path) -> Iterator[str]:
    """Prometheus with the shipped rules, scraping every second."""
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [
            {"job_name": "gateway", "static_configs": [{"targets": [urlsplit(gateway).netloc]}]}
        ],
    }
    (tmp_path / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
    port = free_port()
    assert PROMETHEUS is not None
    command = [
        PROMETHEUS,
        f"--config.file={tmp_path}/prometheus.yml",
        f"--storage.tsdb.path={tmp_path}/tsdb",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
    ]
    with process_on(port, *command) as url:
        yield url


def asked(prometheus: str, expr: str) -> dict[str, float]:
    """The expression's values by variant."""
    try:
        answer = httpx.get(f"{prometheus}/api/v1/query", params={"query": expr}).json()
    except httpx.HTTPError:
        return {}
    rows: list[dict[str, Any]] = answer["data"]["result"] if answer["status"] == "success" else []
    return {row["metric"].get("variant", ""): float(row["value"][1]) for row in rows}


def shop(gateway: str, users: range) -> None:
    """Each user searches once and clicks every third hit of the user's own; one click is sent twice."""
    with httpx.Client(base_url=gateway, timeout=20) as client:
        for user in users:
            answer = client.post(
                "/v1/search",
                files={"image": tiny_version.photo("red")},
                data={"user_id": f"user-{user}", "k": "5"},
            ).json()
            chosen = [hit for place, hit in enumerate(answer["hits"]) if (place + user) % 3 == 0]
            now = datetime.now(UTC).isoformat()
            events = [{"click_token": hit["click_token"], "type": "click", "ts": now} for hit in chosen]
            client.post("/v1/events", json={"events": [*events, events[0]]}).raise_for_status()


def counted(settings: Settings) -> dict[str, tuple[int, int]]:
    """Impressions and clicks by variant, as the event log has them."""
    log = connect(settings).events
    try:
        return {row.variant: (row.impressions, row.clicks) for row in log.funnel()}
    finally:
        log.close()


def test_the_recording_rule_gives_the_ctr_of_the_event_log(
    gateway: str, prometheus: str, settings: Settings
) -> None:
    def all_there(searches: int) -> dict[str, tuple[int, int]] | None:
        """What the log has, once it and Prometheus know of all these searches."""
        log = counted(settings)
        if sum(row[0] for row in log.values()) < searches * 5:
            return None
        shown = asked(prometheus, "sum by (variant) (immr_impressions_total)")
        clicked = asked(prometheus, 'sum by (variant) (immr_events_total{type="click"})')
        return log if {name: (shown.get(name), clicked.get(name)) for name in log} == log else None

    # few, so that no scrape falls among them: a counter's first value is no increase
    shop(gateway, range(14))
    early = until(lambda: all_there(14))
    shop(gateway, range(14, 74))
    late = until(lambda: all_there(74))
    scraped = time.time()
    evaluated = "timestamp(variant:immr_ctr:ratio1h)"
    until(lambda: min(asked(prometheus, evaluated).values(), default=0.0) > scraped + 1)
    recorded = asked(prometheus, "variant:immr_ctr:ratio1h")
    assert set(recorded) == {"champion", "challenger"}
    for variant, ctr in recorded.items():
        impressions, clicks = (late[variant][place] - early[variant][place] for place in (0, 1))
        # Prometheus extrapolates by up to half a scrape at both ends
        assert ctr == pytest.approx(clicks / impressions, rel=0.1)
