"""Rules of one namespace, tested by Prometheus itself with the series of two shops."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from dashboards.rules import SOURCE, for_namespace

PROMTOOL = shutil.which("promtool")


def series(name: str, namespace: str, **labels: str) -> str:
    pairs = {"namespace": namespace, **labels}
    return f"{name}{{{', '.join(f'{label}={chr(34)}{value}{chr(34)}' for label, value in pairs.items())}}}"


def searches(namespace: str, failing: int) -> list[dict[str, str]]:
    about = {"job": "gateway", "route": "/v1/search"}
    champion = {"job": "gateway", "variant": "champion", "model_version": "immr-1"}
    return [
        {"series": series("immr_requests_total", namespace, status="200", **about), "values": "0+60x60"},
        {"series": series("immr_requests_total", namespace, status="503", **about), "values": f"0+{failing}x60"},
        {"series": series("immr_impressions_total", namespace, **champion), "values": "0+100x120"},
        {"series": series("immr_events_total", namespace, type="click", **champion),
         "values": f"0+{0 if failing else 10}x120"},
    ]  # fmt: skip


@pytest.mark.skipif(PROMTOOL is None, reason="no promtool: apt-get install prometheus (make prometheus)")
def test_shops_that_share_a_prometheus_do_not_share_alerts(tmp_path: Path) -> None:
    """The rules of both are loaded; one shop fails, and the other one's searches would hide it."""
    assert PROMTOOL is not None
    source = yaml.safe_load(SOURCE.read_text())
    for shop in ("shop-a", "shop-b"):
        rules = for_namespace(source, shop)
        for group in rules["groups"]:
            group["name"] = f"{shop}-{group['name']}"
        (tmp_path / f"{shop}.yaml").write_text(yaml.safe_dump(rules))
    fails = {
        "exp_labels": {"severity": "critical", "namespace": "shop-a", "job": "gateway"},
        "exp_annotations": {
            "summary": "gateway: 9.091% of searches fail",
            "look_at": "GET /health/ready on the gateway names the variant that is down. Then read its Bento's log.",
        },
    }
    ratio = 'variant:immr_ctr:ratio1h{namespace="%s", variant="champion", model_version="immr-1"}'
    test = {
        "rule_files": ["shop-a.yaml", "shop-b.yaml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": searches("shop-a", failing=6) + searches("shop-b", failing=0),
                "promql_expr_test": [
                    {
                        "expr": "variant:immr_ctr:ratio1h",
                        "eval_time": "2h",
                        "exp_samples": [
                            {"labels": ratio % "shop-a", "value": 0},
                            {"labels": ratio % "shop-b", "value": 0.1},
                        ],
                    }
                ],
                "alert_rule_test": [
                    {"alertname": "ImmrSearchesFail", "eval_time": "50m", "exp_alerts": [fails]},
                ],
            }
        ],
    }
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(test))
    done = subprocess.run(
        [PROMTOOL, "test", "rules", str(tmp_path / "test.yaml")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_series_of_every_rule_is_restricted() -> None:
    rules = for_namespace(yaml.safe_load(SOURCE.read_text()), "shop-a")
    for group in rules["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["namespace"] == "shop-a"
            named = rule["expr"].count("immr_") + rule["expr"].count("collection_")
            assert rule["expr"].count('{namespace="shop-a"') == named, rule["expr"]
