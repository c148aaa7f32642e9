"""Figures that are asked for when someone looks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from prometheus_client import generate_latest

from serving.metrics import Metrics


def value(metrics: Metrics, name: str) -> float:
    lines = generate_latest(metrics.registry).decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


def test_index_and_features_are_looked_at_when_asked() -> None:
    metrics = Metrics()
    documents, newest = [5], [None, datetime.now(UTC) - timedelta(hours=2)]
    metrics.watch(lambda: documents[0], lambda: newest[0])
    assert value(metrics, "immr_index_documents") == 5
    assert value(metrics, "immr_features_age_seconds") != value(metrics, "immr_features_age_seconds")  # NaN
    documents[0] = 6
    newest.pop(0)
    assert value(metrics, "immr_index_documents") == 6
    assert 7190 < value(metrics, "immr_features_age_seconds") < 8000
