"""The Grafana board as code: rows of panels over the metrics, and the rules of `prometheus/rules.yaml`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from grafana_foundation_sdk.builders import dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, DataSourceRef

from immr.cli.help import run_module
from immr.readout.sample_ratio import ALPHA
from immr.storage.atomic import write_atomically

RULES = Path(__file__).parent / "prometheus" / "rules.yaml"
SOURCE = DataSourceRef(type_val="prometheus", uid="${source}")


@dataclass(frozen=True)
class Query:
    """A line or a number: the expression and its legend."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """One panel. A `number` shows the newest value only."""

    title: str
    description: str
    queries: Sequence[Query]
    unit: str = "short"
    number: bool = False
    width: int = 8


ROWS: dict[str, Sequence[Panel]] = {
    "CTR by variant": (
        Panel(
            "CTR, last hour",
            "Clicks per impression of each variant, as the gateway counts them. `immr experiment readout` counts "
            "users, and says whether a difference is more than chance.",
            [Query("variant:immr_ctr:ratio1h", "{{variant}} {{model_version}}")],
            unit="percentunit",
            width=12,
        ),
        Panel(
            "CTR, last day",
            "The same over a day: steadier, and slower to move.",
            [Query("variant:immr_ctr:ratio1d", "{{variant}} {{model_version}}")],
            unit="percentunit",
            width=12,
        ),
        Panel(
            "Difference in CTR, readout",
            "Challenger minus champion, with the interval that is valid at every look. Nothing is shown "
            "while the readout is withheld.",
            [
                Query("immr_experiment_ctr_difference", "{{variant}}: difference in CTR"),
                Query("immr_experiment_ctr_difference_low", "{{variant}}: lower bound"),
                Query("immr_experiment_ctr_difference_high", "{{variant}}: upper bound"),
            ],
            unit="percentunit",
            width=12,
        ),
        Panel(
            "Users by variant",
            "Users since the test began, without bots. Their numbers should match the shares of the test.",
            [Query("immr_experiment_users", "{{variant}} {{model_version}}")],
        ),
        Panel(
            "Sample ratio, p",
            f"Below {ALPHA}, users do not match the shares, and the readout is withheld.",
            [Query("immr_experiment_sample_ratio_p_value")],
            number=True,
            width=4,
        ),
    ),
    "Funnel": (
        Panel(
            "Search funnel, last hour",
            "From searches to orders. If all shares change, suspect the traffic; if only one does, its stage.",
            [
                Query('sum(increase(immr_requests_total{route="/v1/search", status="200"}[1h]))', "answers"),
                Query("sum(variant:immr_impressions:increase1h)", "impressions"),
                Query("sum(variant:immr_clicks:increase1h)", "clicks"),
                Query("sum(variant:immr_orders:increase1h)", "orders"),
            ],
            width=12,
        ),
        Panel(
            "Orders per click, last hour",
            "By variant.",
            [
                Query(
                    "variant:immr_orders:increase1h / (variant:immr_clicks:increase1h > 0)",
                    "{{variant}} {{model_version}}",
                )
            ],
            unit="percentunit",
        ),
        Panel(
            "Waiting events",
            "Impressions and clicks on disk that the event log has not received yet.",
            [Query("sum(immr_events_waiting_bytes)")],
            unit="bytes",
            number=True,
            width=4,
        ),
    ),
    "Latency by stage": (
        Panel(
            "p50 by stage",
            "Half of the searches are faster. `forward` is the gateway's wait for a version; decode, encode, "
            "retrieve, features and rank are the version's own.",
            [Query("job_stage:immr_stage_seconds:p50_10m", "{{job}} {{stage}}")],
            unit="s",
            width=12,
        ),
        Panel(
            "p99 by stage",
            "One search in a hundred is slower.",
            [Query("job_stage:immr_stage_seconds:p99_10m", "{{job}} {{stage}}")],
            unit="s",
            width=12,
        ),
    ),
    "Errors": (
        Panel(
            "Errors by kind",
            "Per second. `variant_down`: a version did not answer; `event_log`: events were not accepted; "
            "`http_4xx`: errors of callers.",
            [Query("sum by (job, kind) (rate(immr_errors_total[5m]))", "{{job}} {{kind}}")],
            unit="reqps",
            width=12,
        ),
        Panel(
            "Share of searches that failed, 10 minutes",
            "The alert fires above 2 % of at least 100 searches.",
            [Query("job:immr_failed_searches:increase10m / (job:immr_searches:increase10m > 0)", "{{job}}")],
            unit="percentunit",
        ),
        Panel(
            "Open circuit breakers",
            "1 while the gateway does not send searches to a failing variant.",
            [Query("max by (variant) (immr_breaker_open)", "{{variant}}")],
            number=True,
            width=4,
        ),
    ),
    "Index": (
        Panel(
            "Retrieval, p50 and p99",
            "The vector search alone.",
            [
                Query('job_stage:immr_stage_seconds:p50_10m{stage="retrieve"}', "{{job}} p50"),
                Query('job_stage:immr_stage_seconds:p99_10m{stage="retrieve"}', "{{job}} p99"),
            ],
            unit="s",
            width=12,
        ),
        Panel(
            "Searches refused with 503",
            "A version whose collection does not answer is not ready and answers 503.",
            [
                Query(
                    'sum by (job) (rate(immr_requests_total{route="/v1/search", status="503"}[5m]))',
                    "{{job}}",
                )
            ],
            unit="reqps",
            width=12,
        ),
    ),
    "Features": (
        Panel(
            "Degraded searches",
            "Share of searches, by the part that was missing.",
            [
                Query(
                    "sum by (job, part) (increase(immr_degraded_total[10m]))"
                    " / on (job) group_left () (job:immr_searches:increase10m > 0)",
                    "{{job}} {{part}}",
                )
            ],
            unit="percentunit",
            width=12,
        ),
        Panel(
            "Age of the newest features",
            "Since the last `immr materialize`.",
            [Query("max(immr_features_age_seconds)")],
            unit="s",
            number=True,
            width=6,
        ),
        Panel(
            "Drift",
            "1 if recent searches differ from the champion's training data; `immr drift` tells how.",
            [Query("max by (what) (immr_drift_found)", "{{what}}")],
            number=True,
            width=6,
        ),
    ),
    "Training": (
        Panel(
            "Age of the versions",
            "Since each version was registered.",
            [
                Query(
                    "time() - max by (role, model_version) (immr_model_version_created_timestamp_seconds)",
                    "{{role}} {{model_version}}",
                )
            ],
            unit="s",
            number=True,
            width=12,
        ),
        Panel(
            "Decisions so far",
            "Lines of the promotion log.",
            [Query("max by (action) (immr_decisions)", "{{action}}")],
            number=True,
            width=12,
        ),
    ),
}


def board() -> dashboard.Dashboard:
    """All rows, over the data source that one picks at the top."""
    made = (
        dashboard.Dashboard("IMMR: visual search, A/B-tested")
        .uid("immr")
        .description("Generated by `python -m dashboards.boards`: change dashboards/boards.py instead.")
        .tags(["immr"])
        .time("now-6h", "now")
        .refresh("30s")
        .readonly()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("source").label("Prometheus").type("prometheus"))
    )
    number = 0
    for title, panels in ROWS.items():
        number += 1
        made = made.with_row(dashboard.Row(title).id(number))
        for panel in panels:
            number += 1
            made = made.with_panel(_built(panel).id(number))
    return made


def write(folder: Path) -> list[Path]:
    """Write what Grafana imports and what Prometheus loads: `grafana/immr.json`, `prometheus/rules.yaml`.

    The same bytes each time.
    """
    text = json.dumps(board().build(), cls=JSONEncoder, indent=1, sort_keys=True, ensure_ascii=False)
    made = {
        folder / "grafana" / "immr.json": text + "\n",
        folder / "prometheus" / "rules.yaml": RULES.read_text(),
    }
    for path, content in made.items():
        write_atomically(path, content)
    return list(made)


def _built(panel: Panel) -> stat.Panel | timeseries.Panel:
    made = stat.Panel() if panel.number else timeseries.Panel().fill_opacity(5)
    made = (
        made.title(panel.title)
        .description(panel.description)
        .datasource(SOURCE)
        .unit(panel.unit)
        .height(8)
        .span(panel.width)
        .no_value("nothing yet")
    )
    for place, query in enumerate(panel.queries):
        target = prometheus.Dataquery().expr(query.expr).ref_id(chr(ord("A") + place))
        target = target.legend_format(query.legend or panel.title)
        made = made.with_target(target.instant() if panel.number else target.range())
    return made


def boards(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder for grafana/ and prometheus/.")] = Path(
        "dashboards"
    ),
) -> None:
    """Write Grafana's board as JSON, and the rules that Prometheus loads.

    Example: python -m dashboards.boards
    """
    for path in write(out):
        typer.echo(path)


if __name__ == "__main__":
    run_module(boards)
