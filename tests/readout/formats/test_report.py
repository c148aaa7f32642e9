"""The report of a test, and its progress towards the plan."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from immr.experiment.history import TestEvent
from immr.readout.decision import DecisionPolicy, decide
from immr.readout.formats.report import mark_rollback, progress, render
from immr.readout.power import Plan
from immr.readout.readout import readout
from immr.readout.segments import segments
from tests.readout.test_segments import NOON, TEST, shop


def test_the_report_is_one_page_that_loads_nothing() -> None:
    joined, searches = shop()
    found = readout(joined, TEST, searches)
    split = segments(joined, searches, TEST, ["country"])
    events = [TestEvent(NOON, "test", "started", "<ann>", "immr-1", "immr-2", 0.5)]
    html = render(TEST, found, decide(found, DecisionPolicy()), split, events)
    for part in ("Promote.", "The challenger is better", "Sample ratio: the users match", "c1", "differs"):
        assert part in html
    assert html.count("<svg") == 2
    assert "&lt;ann&gt;" in html and "<ann>" not in html
    assert not re.search(r"https?://|<script|<link", html)


def test_a_kept_report_is_marked_above_its_verdict_and_below_what_was_done() -> None:
    joined, searches = shop()
    found = readout(joined, TEST, searches)
    undone = TestEvent(
        NOON, "test", "undone", "<ann>", "immr-1", "immr-2", 0.0, "immr-2 & its text were wrong."
    )
    events = [TestEvent(NOON, "test", "promoted", "ann", "immr-1", "immr-2", 0.5)]
    restored = TestEvent(NOON, "test", "restored", "ben", "immr-1", "immr-2", 1.0, "immr-2 is back.")
    html = mark_rollback(render(TEST, found, decide(found, DecisionPolicy()), (), events), undone)
    html = mark_rollback(html, restored)
    parts = ("immr-2 &amp; its text", "Restored on ", "Promote.", "promoted: ", "undone: ", "restored: ")
    places = [html.index(part) for part in parts]
    assert places == sorted(places)
    assert html.index("0 %</td>", html.index("undone: ")) < html.index("100 %</td>", html.index("restored: "))
    assert html.index("restored: ") < html.rindex("</tbody>") < html.index("</main>")
    assert html.count('<p class="verdict">') == 3 and "<ann>" not in html


def test_a_report_without_a_comparison_gives_the_reason() -> None:
    joined, searches = shop(users=1)
    found = readout(joined, TEST, searches)
    decision = decide(found, DecisionPolicy())
    assert found.withheld is not None
    assert render(TEST, found, decision).count(found.withheld) == 1, "it was there twice"
    broken = replace(decision, action="roll back", reason="The challenger fails.")
    assert f"No comparison: {found.withheld}." in render(TEST, found, broken)
    assert "<svg" not in render(TEST, found, decision)


@pytest.mark.parametrize(
    ("needed", "days", "sentence"),
    [
        (10_196, 1.0, "4,000 of 10,196 users; about 2 more days"),
        (4_400, 1.0, "4,000 of 4,400 users; about 2 more hours"),
        (4_001, 1.0, "4,000 of 4,001 users; about 1 more hour"),
        (4_000, 1.0, "4,000 users, of the 4,000 that the plan needs"),
        (9_000, 0.9, "4,000 of 9,000 users; too early to say how long it takes"),
    ],
)
def test_progress_never_says_zero_days(needed: int, days: float, sentence: str) -> None:
    joined, searches = shop()
    found = replace(readout(joined, TEST, searches), plan=Plan(0.05, 0.8, 1, needed), days=days)
    assert progress(TEST, found, replace(decide(found, DecisionPolicy()), action="wait")) == sentence


@pytest.mark.parametrize(
    ("needed", "days", "sentence"),
    [
        (10_196, 6.0, "4,000 of 10,196 users; about 9 more days"),
        (4_400, 1.0, "4,000 of 4,400 users; about 6 more days"),
        (4_000, 6.5, "4,000 users, of the 4,000 that the plan needs; about 12 more hours"),
        (9_000, 0.9, "4,000 of 9,000 users; too early to say how long it takes, but not less than 7 days"),
    ],
)
def test_progress_counts_the_least_time(needed: int, days: float, sentence: str) -> None:
    joined, searches = shop()
    found = replace(readout(joined, TEST, searches), plan=Plan(0.05, 0.8, 1, needed), days=days, min_days=7.0)
    assert progress(TEST, found, replace(decide(found, DecisionPolicy()), action="wait")) == sentence


def test_a_report_with_a_decision_has_no_time_to_go() -> None:
    joined, searches = shop()
    found = replace(readout(joined, TEST, searches), plan=Plan(0.05, 0.8, 1, 10_196), days=1.0)
    decision = decide(found, DecisionPolicy())
    assert decision.action == "promote"
    assert "more days" not in render(TEST, found, decision)
    assert "about 2 more days" in render(TEST, found, replace(decision, action="wait"))


def test_the_time_of_the_report_defaults_to_now() -> None:
    joined, searches = shop(users=10)
    found = readout(joined, TEST, searches)
    assert f"{datetime.now(UTC):%Y}" in render(TEST, found, decide(found, DecisionPolicy()))
