"""Grafana's board and Prometheus' rules: generated as committed, and only with metrics that exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from dashboards.boards import ROWS, write
from immr.readout.sample_ratio import ALPHA
from serving.process.metrics import Metrics

HERE = Path(__file__).parent
MADE = HERE.parents[1] / "dashboards"
OF_OTHERS = {"up"}
PROMTOOL = shutil.which("promtool")
PAGE_METRICS = set(re.findall(r'"(immr_\w+)"', (MADE / "page_metrics.py").read_text()))


def rules() -> list[dict[str, str]]:
    groups = yaml.safe_load((MADE / "prometheus" / "rules.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def expressions() -> list[str]:
    of_board = [query.expr for panels in ROWS.values() for panel in panels for query in panel.queries]
    return [*of_board, *(rule["expr"] for rule in rules())]


def test_committed_files_are_what_the_code_generates(tmp_path: Path) -> None:
    for path in write(tmp_path):
        assert path.read_bytes() == (MADE / path.relative_to(tmp_path)).read_bytes(), (
            "run python -m dashboards.boards"
        )


def test_the_board_has_its_rows_and_numbered_panels() -> None:
    board = json.loads((MADE / "grafana" / "immr.json").read_text())
    rows = [panel["title"] for panel in board["panels"] if panel["type"] == "row"]
    assert rows == ["CTR by variant", "Funnel", "Latency by stage", "Errors", "Index", "Features", "Training"]
    numbers = [panel["id"] for panel in board["panels"]]
    assert len(set(numbers)) == len(numbers)
    assert all(panel["description"] for panel in board["panels"] if panel["type"] != "row")


def test_the_alert_fires_when_the_readout_is_withheld() -> None:
    [rule] = [rule for rule in rules() if rule.get("alert") == "ImmrSampleRatioWrong"]
    assert rule["expr"].endswith(f"< {ALPHA}")


def test_queries_use_existing_metrics_only() -> None:
    """Every metric in a query is a recording rule's, the gateway's, a version's or the page's."""
    metrics = Metrics()
    metrics.watch_variants(dict)
    served = {metric.name for metric in metrics.registry.collect()}
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    for expr in expressions():
        for name in re.findall(r"[a-z_]+:immr[a-z_]*:\w+", expr):
            assert name in recorded, expr
        for name in re.findall(r"(?<![\w:])immr_\w+(?!\w*:)", expr):
            known = served | PAGE_METRICS
            base = re.sub(r"_(total|bucket|low|high)$", "", name)
            assert name in known or base in known, f"{name} in {expr}"


def test_no_label_contains_a_user() -> None:
    labels = {label for metric in Metrics().registry.collect() for s in metric.samples for label in s.labels}
    assert not {label for label in labels if "user" in label}
    assert not [expr for expr in expressions() if "user_id" in expr]


def test_alerts_on_shares_need_a_denominator_and_a_hint() -> None:
    for rule in rules():
        if "alert" not in rule:
            continue
        assert set(rule["annotations"]) == {"summary", "look_at"}  # type: ignore[arg-type]
        if "/" in rule["expr"]:
            assert re.search(r"> \d{3,}", rule["expr"]), f"{rule['alert']} divides by any number of events"


def test_no_alert_fires_once_per_replica() -> None:
    for rule in rules():
        if "alert" in rule:
            over_replicas = re.search(r"\b(sum|min|max)\b|\w+:immr_\w+:", rule["expr"])
            assert over_replicas, f"{rule['alert']} keeps the label of its replica"


@pytest.mark.skipif(PROMTOOL is None, reason="no promtool: apt-get install prometheus (make prometheus)")
def test_rules_pass_promtools_tests() -> None:
    assert PROMTOOL is not None
    done = subprocess.run(
        [PROMTOOL, "test", "rules", str(HERE / "rules-test.yaml")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
