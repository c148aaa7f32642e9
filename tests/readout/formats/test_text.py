"""A readout as text: every variant has its row, and a test that is over waits for nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from immr.experiment.changes import end, stop
from immr.experiment.definition import CHALLENGER, Variant
from immr.experiment.history import TestEvent
from immr.readout.decision import Decision, DecisionPolicy, Verdict, decide
from immr.readout.formats import tidy
from immr.readout.formats.report import render
from immr.readout.formats.text import check_rows, headline, verdicts
from immr.readout.power import Plan
from immr.readout.readout import Readout, readout
from tests.readout.test_segments import NOON, TEST, shop


def searched() -> Readout:
    """All searches are known with the time that they took."""
    joined, searches = shop(users=400)
    timed = searches.append_column("took_ms", [[20.0] * 400]).append_column("results", [[12] * 400])
    return readout(joined, TEST, timed)


def test_a_variant_that_was_not_searched_yet_has_its_row() -> None:
    """It was missing from the table, so one could not tell whether it was checked at all."""
    found = searched()
    alone = replace(found, health=found.health[:1])
    rows = {name: rest for name, *rest in check_rows(alone)}
    assert rows["champion"] == ["200", "200", "0.0%", "0.0%", "20 ms"]
    assert rows[CHALLENGER] == ["200", "200", "–", "–", "–"]
    assert len(check_rows(replace(found, health=()))) == 3
    by_metric = {row["metric"]: row for row in tidy.rows(alone).to_pylist()}
    assert (by_metric["p99 (ms)"]["champion"], by_metric["p99 (ms)"]["challenger"]) == (20, None)
    assert "<li>Challenger: no searches yet.</li>" in render(TEST, alone, decide(alone, DecisionPolicy()))


@pytest.mark.parametrize("action", ["wait", "promote", "roll back"])
def test_a_test_that_is_over_waits_for_nothing(action: str) -> None:
    """A stopped test was shown with "wait", and with the days until it would have enough users."""
    found = replace(searched(), plan=Plan(0.05, 0.8, 1, 10_196), days=1.5)
    decision: Decision = replace(decide(found, DecisionPolicy()), action=action)
    assert headline(TEST, decision) == action
    for over in (stop(TEST, NOON), end(TEST, [CHALLENGER], NOON)):
        assert headline(over, decision) == "stopped"
        html = render(over, found, decision)
        assert "<strong>Stopped.</strong>" in html and "more days" not in html


def test_a_report_says_why_a_challenger_is_compared_no_longer() -> None:
    third = Variant("challenger-2", "http://127.0.0.1:3", "immr-3", 0.0, ended=True)
    left = replace(TEST, variants=(*TEST.variants, third), state="stopped")
    event = TestEvent(NOON, "test", "ended", "ann", "immr-1", "immr-3", 0.2, "It was slow.")
    html = render(left, searched(), decide(searched(), DecisionPolicy()), events=(event,))
    when = f"{NOON:%d %b %Y %H:%M} UTC"
    assert f"immr-3 left the test on {when} and is compared no longer. It was slow.</p>" in html


def test_the_champion_alone_is_no_test() -> None:
    alone = replace(TEST, variants=(replace(TEST.champion, weight=1.0),))
    assert headline(alone, Decision("wait", "There is no comparison.", {})) == "no test"


def test_each_of_several_challengers_has_its_verdict() -> None:
    """A challenger that was about to be removed was shown below "wait", the verdict on the whole test."""
    third = Variant("challenger-2", "http://127.0.0.1:3", "immr-3", 0.2)
    champion = replace(TEST.champion, weight=TEST.champion.weight - 0.2)
    several = replace(TEST, variants=(champion, *TEST.challengers, third))
    leaves = Verdict(CHALLENGER, "roll back", "It is worse.")
    decision = Decision("wait", "", {}, (leaves, Verdict("challenger-2", "wait", "Too early.")))
    assert verdicts(several, decision) == [
        ("roll back (immr-2)", "It is worse."),
        ("wait (immr-3)", "Too early."),
    ]
    html = render(several, searched(), decision)
    assert "<strong>Roll back (immr-2).</strong> It is worse." in html and "Wait (immr-3)." in html
    alike = tuple(replace(each, action="wait", reason="No comparison.") for each in decision.verdicts)
    withheld = Decision("wait", "No comparison.", {}, alike)
    assert verdicts(several, withheld) == [("wait", "No comparison.")]
    assert verdicts(stop(several, NOON), decision)[0][0] == "stopped"


def test_the_champion_alone_without_searches_has_no_table_of_checks() -> None:
    found = searched()
    assert check_rows(replace(found, variants=found.variants[:1], health=()))[1:] == []
